"""The style sheet of a page: both colour schemes, any width."""

STYLE = """
:root { color-scheme: light dark; --ground: #fbfbfd; --card: #ffffff; --text: #1c1e26;
  --quiet: #5a6070; --rule: #d9dce5; --a: #2f6fde; --b: #b35a00; --bad: #c22f3d; --good: #16794a; }
@media (prefers-color-scheme: dark) { :root { --ground: #14161c; --card: #1d2029; --text: #e6e8ef;
  --quiet: #a0a7b8; --rule: #343948; --a: #78a6ff; --b: #f0a04b; --bad: #ff7f87;
  --good: #5fd39a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 32px 0 12px; }
p { margin: 4px 0; } .quiet { color: var(--quiet); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin: 20px 0; padding: 0; }
.tiles div, figure, article, table { background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px; }
.tiles div { padding: 12px; } .tiles dt { color: var(--quiet); font-size: .85rem; }
.tiles dd { margin: 0; font-size: 1.3rem; font-weight: 600; }
.tiles small { font-size: .8rem; font-weight: 400; color: var(--quiet); display: block; }
figure { margin: 0 0 16px; padding: 12px; }
figcaption { display: flex; flex-wrap: wrap; gap: 4px 16px; margin-bottom: 4px; }
.key { color: var(--quiet); font-size: .85rem; }
.key i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 6px; }
svg { display: block; width: 100%; height: 140px; border-bottom: 1px solid var(--rule);
  border-top: 1px dashed var(--rule); }
.top, .times { color: var(--quiet); font-size: .8rem; }
.times { display: flex; justify-content: space-between; gap: 8px; margin-top: 4px; }
rect.a, i.a { fill: var(--a); background: var(--a); }
rect.b, i.b { fill: var(--b); background: var(--b); }
rect.bad, i.bad { fill: var(--bad); background: var(--bad); }
polyline { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; }
polyline.a { stroke: var(--a); } polyline.b { stroke: var(--b); }
article { padding: 12px 16px; margin-bottom: 12px; border-left: 4px solid var(--b); }
article h3 { margin: 0 0 4px; font-size: 1rem; }
article ul { margin: 4px 0 8px; padding-left: 20px; }
article .saves { color: var(--good); font-weight: 600; }
table { width: 100%; border-collapse: separate; border-spacing: 0; margin-bottom: 16px; }
th, td { padding: 6px 10px; text-align: right; border-bottom: 1px solid var(--rule); }
th { color: var(--quiet); font-weight: 500; font-size: .85rem; } tr:last-child td { border: 0; }
th:first-child, td:first-child { text-align: left; }
.worse { color: var(--bad); font-weight: 600; } .better { color: var(--good); font-weight: 600; }
@media (max-width: 760px) {
  table, tbody { display: block; } thead { display: none; }
  tr { display: grid; grid-template-columns: 1fr 1fr; gap: 0 24px; padding: 8px 12px;
    border-bottom: 1px solid var(--rule); }
  tr:last-child { border: 0; }
  td { display: flex; justify-content: space-between; gap: 8px; border: 0; padding: 1px 0; }
  td::before { content: attr(data-name); color: var(--quiet); text-align: left; flex: none; }
  td:first-child { grid-column: 1 / -1; font-weight: 600; }
  td:first-child::before { content: none; } td:last-child:nth-child(even) { grid-column: 1 / -1; }
}
"""
