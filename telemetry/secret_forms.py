"""Forms of secrets in a text: a table with the literals that each form must contain.

The facts are from the services' own documentation and from detect-secrets' rules. That library is
no dependency: it needs an HTTP client, and some of its rules take quadratic time.

A form is tried only at one of its literals. It looks at a bounded range from there, or at a run of
characters that it can't enter in the middle. So the time is linear in the text's length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_BEGINS = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt]))"
"""Not within a word; behind an escaped line break of JSON in a text."""


@dataclass(frozen=True, slots=True)
class Form:
    """One kind of secret. Its pattern is matched at a literal; the group `s` is the secret."""

    name: str
    literals: tuple[str, ...]
    """In lower case."""
    pattern: re.Pattern[str]


def _token(name: str, literals: str, pattern: str) -> Form:
    """A key of a service: a known prefix and a run of characters."""
    return Form(
        name, tuple(literals.lower().split()), re.compile(rf"{_BEGINS}(?P<s>{pattern})", re.ASCII)
    )


_RUN = r"[A-Za-z0-9_-]"
TOKENS: tuple[Form, ...] = (
    # Words that begin so have no digits.
    _token("OpenAI, Anthropic and others", "sk-", rf"sk-(?=[A-Za-z_-]*\d){_RUN}{{16,}}+"),
    _token("GitHub", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_\w{20,}+"),
    _token("GitHub, fine-grained", "github_pat_", r"github_pat_\w{20,}+"),
    _token(
        "GitLab",
        "glpat- gldt- glrt- glft- glsoat- glcbt- glimt- glptt- glagent- gloas- gr1348941",
        rf"(?:gl(?:pat|dt|rt|ft|soat|cbt|imt|ptt|agent|oas)-|GR1348941){_RUN}{{16,}}+",
    ),
    _token("Slack", "xox xapp-", r"(?:xox[a-z](?:\.xox[a-z])?|xapp)-[A-Za-z0-9-]{10,}+"),
    Form(
        "Slack's webhooks",
        ("hooks.slack.com/services/",),
        re.compile(r"hooks\.slack\.com/services/(?P<s>[\w/]{10,200}+)", re.ASCII),
    ),
    _token(
        "AWS access key",
        "akia asia abia acca a3t",
        r"(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[0-9A-Z]{16}(?![0-9A-Za-z])",
    ),
    _token("Google API", "aiza", rf"AIza{_RUN}{{30,}}+"),
    _token("Google OAuth", "ya29. gocspx-", rf"(?:ya29\.|GOCSPX-){_RUN}{{20,}}+"),
    _token("Hugging Face", "hf_", r"hf_[A-Za-z0-9]{20,}+"),
    _token("npm", "npm_", r"npm_[A-Za-z0-9]{30,}+"),
    _token("PyPI", "pypi-", rf"pypi-{_RUN}{{30,}}+"),
    _token("Docker", "dckr_pat_", rf"dckr_pat_{_RUN}{{20,}}+"),
    _token("SendGrid", "sg.", rf"SG\.{_RUN}{{16,}}+\.{_RUN}{{16,}}+"),
    _token("Stripe", "sk_ rk_ whsec_", r"(?:[rs]k_(?:live|test)_|whsec_)[A-Za-z0-9+/]{16,}+=*"),
    _token("Square", "sq0", rf"sq0[a-z]{{3}}-{_RUN}{{20,}}+"),
    _token("Shopify", "shp", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    _token("DigitalOcean", "do", r"do[opr]_v1_[a-f0-9]{64}"),
    _token("Vault", "hvs. hvb.", rf"hv[sb]\.{_RUN}{{20,}}+"),
    _token("Databricks", "dapi", r"dapi[0-9a-f]{32}(?![0-9a-f])"),
    _token("Atlassian", "atatt3", rf"ATATT3{_RUN}{{20,}}+=*\w*"),
    _token("Figma, Linear", "figd_ lin_api_", rf"(?:figd_|lin_api_){_RUN}{{20,}}+"),
    _token(
        "models' hosts",
        "gsk_ xai- pplx- nvapi- r8_",
        rf"(?:gsk_|xai-|pplx-|nvapi-|r8_)(?=[A-Za-z_-]*\d){_RUN}{{20,}}+",
    ),
    _token(
        "more models' hosts",
        "csk- fw_ jina_ fc- e2b_ pcsk_ tvly-",
        rf"(?:csk-|fw_|jina_|fc-|e2b_|pcsk_|tvly-)(?=[A-Za-z_-]*\d){_RUN}{{20,}}+",
    ),
    _token("LangSmith", "lsv2_", rf"lsv2_(?:pt|sk)_{_RUN}{{20,}}+"),
    _token("Notion", "ntn_", r"ntn_[A-Za-z0-9]{30,}+"),
    _token("Supabase", "sbp_ sb_secret_", rf"(?:sbp_(?:v0_)?|sb_secret_){_RUN}{{20,}}+"),
    _token("Sentry", "sntrys_ sntryu_", r"sntry[su]_[\w+/-]{20,}+=*\w*"),
    _token("PostHog", "phx_", r"phx_\w{30,}+"),
    _token("Resend", "re_", r"re_[A-Za-z0-9]{6,12}_[A-Za-z0-9]{20,}+"),
    _token("Doppler", "dp.", r"dp\.(?:pt|st|ct|sa|scim|audit)\.[\w.-]{30,}+"),
    _token("Pulumi", "pul-", r"pul-[0-9a-f]{40}(?![0-9a-f])"),
    _token("1Password", "ops_ey", rf"ops_ey{_RUN}{{30,}}+"),
    _token("CircleCI, Buildkite", "ccipat_ bkua_", rf"(?:CCIPAT_|bkua_){_RUN}{{20,}}+"),
    Form(
        "Terraform Cloud",
        (".atlasv1.",),
        re.compile(rf"\.atlasv1\.(?P<s>{_RUN}{{40,}}+)", re.ASCII),
    ),
    _token("Grafana, New Relic", "glsa_ nrak-", r"(?:glsa_|NRAK-)\w{20,}+"),
    _token("Postman", "pmak-", r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
    _token("RubyGems", "rubygems_", r"rubygems_[0-9a-f]{40,}+"),
    _token("Tailscale", "tskey-", rf"tskey-{_RUN}{{16,}}+"),
    Form("Telegram", (":aa",), re.compile(r"(?<=\d{8}):(?P<s>AA[\w-]{33})", re.ASCII)),
    _token("Twilio", "sk", r"SK[0-9a-f]{32}(?![0-9a-f])"),
    _token("Mailgun", "key-", r"key-[0-9a-f]{32}(?![0-9a-f])"),
    _token("age", "age-secret-key-1", r"AGE-SECRET-KEY-1[0-9A-Z]{50,}+"),
    _token(
        "JSON Web Token",
        "eyj",
        rf"eyJ{_RUN}{{8,}}+\.{_RUN}{{8,}}+(?:\.{_RUN}*+){{0,3}}",
    ),
)
_SCHEME = r"(?:bearer|basic|token|digest|bot|apikey|negotiate)"
_PLAIN = r"(?![$<{(%\[])"
"""No placeholder."""
HEADERS: tuple[Form, ...] = (
    Form(
        "Authorization",
        ("authorization",),
        re.compile(
            rf"authorization[\"']?[ \t]{{0,8}}[:=][ \t]{{0,8}}[\"']?{_SCHEME}[ \t]{{1,8}}{_PLAIN}"
            r"(?P<s>[^\s\"'\\]{3,8192}+)",
            re.IGNORECASE,
        ),
    ),
    Form(
        "Bearer",
        ("bearer",),
        re.compile(
            rf"(?<!\w)bearer[ \t]{{1,8}}{_PLAIN}(?P<s>(?=[^\s\"']{{0,64}}\d|[\w.~+/=-]{{24}})"
            r"[\w.~+/=-]{8,8192}+)",
            re.IGNORECASE,
        ),
    ),
    Form(
        "Cookie",
        ("cookie:",),
        re.compile(
            r"cookie:[ \t]{0,8}(?P<s>[^\s=;\"']{1,256}=[^\r\n\"'\\]{1,4096}+)", re.IGNORECASE
        ),
    ),
    Form(
        "URL with a password",
        ("://",),
        re.compile(rf"://{_PLAIN}(?P<s>[^\s/:@\"'<>]{{0,256}}+:{_PLAIN}[^\s/@\"'<>]{{1,256}}+)@"),
    ),
    Form(
        "URL with a token for its user",
        ("://",),
        # Names of people are shorter, or have no digits.
        re.compile(
            rf"://{_PLAIN}(?P<s>(?=[\w.~%+-]{{0,64}}\d|[\w-]{{32}})[\w.~%+-]{{16,512}}+)@",
            re.ASCII,
        ),
    ),
    Form(
        "key of a URL",
        ("?key=", "&key=", "?api", "&api", "?code=", "&code="),
        re.compile(
            rf"[?&](?:key|api[-_]?key|code)={_PLAIN}"
            r"(?P<s>(?=[\w%.~+/-]{0,64}\d|[\w-]{24})[\w%.~+/-]{16,512}+=*)",
            re.IGNORECASE | re.ASCII,
        ),
    ),
    Form(
        "signed URL",
        ("sig=", "signature="),
        re.compile(
            r"(?<=[?&-])(?:sig|signature)=(?P<s>[\w%+/=-]{16,512}+)",
            re.IGNORECASE,
        ),
    ),
    Form(
        ".netrc",
        ("login",),
        re.compile(
            r"(?<!\S)login\s{1,20}\S{1,256}+\s{1,20}password\s{1,20}(?P<s>\S{1,512}+)",
            re.IGNORECASE,
        ),
    ),
    Form(
        "requests' auth",
        ("auth=(",),
        re.compile(
            r"auth=\([ ]?[\"'][^\"'\n]{0,256}+[\"'],[ ]?[\"'](?P<s>[^\"'\n]{1,256}+)[\"']",
            re.IGNORECASE,
        ),
    ),
    Form(
        "sshpass, redis-cli, openssl",
        ("sshpass -p", "redis-cli -a", "-passin pass:", "-passout pass:"),
        re.compile(
            rf"(?:sshpass[ ]-p|redis-cli[ ]-a|-pass(?:in|out)[ ]pass:)[ ]?[\"']?{_PLAIN}"
            r"(?P<s>[^\s\"']{1,256}+)",
            re.IGNORECASE,
        ),
    ),
)
_TAGS = r"password|passphrase|secret|token|api[-_]?key|access[-_]?token|client[-_]?secret"
IN_MARKUP: tuple[Form, ...] = (
    Form(
        "XML",
        ("<password", "<passphrase", "<secret", "<token", "<api", "<access", "<client"),
        re.compile(rf"<(?:{_TAGS})>{_PLAIN}(?P<s>[^<\s]{{1,512}}+)</", re.IGNORECASE),
    ),
    Form(
        "SQL",
        ("identified by", "password '"),
        re.compile(r"(?<!\w)(?:identified[ ]by|password)[ ]'(?P<s>[^'\n]{1,256}+)'", re.IGNORECASE),
    ),
    Form(
        "npm config",
        ("_authtoken ", "_auth ", "_password "),
        re.compile(
            rf"_(?:authToken|auth|password)[ ]{_PLAIN}(?P<s>[^\s\"']{{6,512}}+)", re.IGNORECASE
        ),
    ),
)
LOGINS: tuple[Form, ...] = (
    Form(
        "mysql -p",
        (" -p",),
        re.compile(rf"[ ]-p[\"']?{_PLAIN}(?P<s>[^\s\"'-][^\s\"']{{2,256}}+)"),
    ),
    Form(
        "docker login -p",
        (" -p ",),
        re.compile(rf"[ ]-p[ ][\"']?{_PLAIN}(?P<s>[^\s\"'-][^\s\"']{{2,256}}+)"),
    ),
)
"""Only behind their programs: others mean a port or a path."""
LOGIN_PROGRAMS = (("mysql", "mariadb"), ("docker login", "podman login"))
CURL_USER = Form(
    "curl -u",
    ("-u", "--user", "--proxy-user"),
    re.compile(
        rf"(?<!\S)(?:-u|--user|--proxy-user)[ =]?[\"']?{_PLAIN}"
        r"(?P<s>(?!\d+:\d+(?!\S))[^\s\"':$]{1,256}+:[^\s\"']{1,256}+)",
        re.IGNORECASE,
    ),
)
"""Only after a program that requests web pages: elsewhere this flag is a user and a group."""
ASKS_FOR_PAGES = ("curl", "wget", "http")
PEM_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
PEM_END = "-----END "
