"""Secrets that must not reach telemetry."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.telemetry.redact import MASK, redacted, redacted_text
from mlxdeck.telemetry.secret_forms import CURL_USER, HEADERS, IN_MARKUP, LOGINS, TOKENS
from mlxdeck.telemetry.secret_names import is_secret

FORMS = (*TOKENS, *HEADERS, *IN_MARKUP, *LOGINS, CURL_USER)
RUN = "aB3dE5gH7jK9mN1pQ3sT5vX7zA2cD4fG6hJ8kL0n"
HEX = "0123456789abcdef" * 4
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0"
HIDDEN = {
    # Keys of services: nothing around them says what they are.
    f"sk-ant-api03-{RUN}": RUN,
    f"sk-proj-{RUN}": RUN,
    "export K=sk-ant-REDACTED-EXAMPLE_0123456789": "0123456789",
    f"ghp_{RUN}": RUN,
    f"github_pat_11AAAAAAA0{RUN}": RUN,
    f"glpat-{RUN[:20]}": RUN[:20],
    f"xoxb-123456789012-{RUN[:20]}": RUN[:20],
    f"https://hooks.slack.com/services/T000/B000/{RUN}": RUN,
    "AKIAIOSFODNN7EXAMPLE": "IOSFODNN7EXAMPLE",
    f"AIzaSyD{RUN[:32]}": RUN[:32],
    f"ya29.{RUN}": RUN,
    f"hf_{RUN}": RUN,
    f"npm_{RUN}": RUN,
    f"pypi-{RUN}": RUN,
    f"dckr_pat_{RUN}": RUN,
    f"SG.{RUN[:22]}.{RUN}": RUN,
    f"sk_live_{RUN}": RUN,
    f"sq0csp-{RUN}": RUN,
    f"shpat_{HEX[:32]}": HEX[:32],
    f"dop_v1_{HEX}": HEX,
    f"hvs.{RUN}": RUN,
    f"dapi{HEX[:32]}": HEX[:32],
    f"ATATT3{RUN}": RUN,
    f"lin_api_{RUN}": RUN,
    f"gsk_{RUN}": RUN,
    f"glsa_{RUN}": RUN,
    f"PMAK-{HEX[:24]}-{HEX[:34]}": HEX[:34],
    f"rubygems_{HEX}": HEX,
    f"tskey-auth-{RUN}": RUN,
    f"123456789:AA{RUN[:33]}": RUN[:33],
    f"SK{HEX[:32]}": HEX[:32],
    f"key-{HEX[:32]}": HEX[:32],
    f"AGE-SECRET-KEY-1{RUN.upper()}{RUN.upper()}": RUN.upper(),
    f"{JWT}.c2lnbmF0dXJl": "c2lnbmF0dXJl",
    f"in a text of JSON: \\nghp_{RUN}": RUN,
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----": "MIIEow",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1r": "b3BlbnNzaC1r",
    f"ntn_{RUN}": RUN,
    f"sbp_{HEX[:40]}": HEX[:40],
    f"sb_secret_{RUN}": RUN,
    f"lsv2_pt_{HEX[:32]}_{HEX[:10]}": HEX[:10],
    f"tvly-dev-{RUN}": RUN,
    f"sntrys_{RUN}+/=_{RUN}": RUN,
    f"phx_{RUN}": RUN,
    f"re_{RUN[:8]}_{RUN[:24]}": RUN[:24],
    f"dp.pt.{RUN}": RUN,
    f"pul-{HEX[:40]}": HEX[:40],
    f"ops_ey{RUN}": RUN,
    f"CCIPAT_{RUN}": RUN,
    f"a1b2c3d4e5f6g7.atlasv1.{RUN}{RUN}": RUN,
    f"csk-{RUN} and fc-{HEX[:32]}": RUN,
    # Headers, URLs, programs.
    f"git clone https://{RUN}@github.com/me/x.git": RUN,
    f"https://{HEX[:32]}@o1.ingest.example.com/2": HEX[:32],
    f"https://x/?key={RUN}": RUN,
    f"https://x/v1?alt=json&key={HEX[:32]}": HEX[:32],
    f"https://x/v1?alt=json&api_key={RUN}": RUN,
    "https://x/v1?a=1&api_key=hunter": "hunter",
    f"Authorization: Bearer {RUN}": RUN,
    "curl -H 'Authorization: Bearer abcdef0123456789' http://x": "abcdef0123456789",
    "authorization: Basic dXNlcjpwYXNz": "dXNlcjpwYXNz",
    f"Bearer {RUN}": RUN,
    "-H 'X-Api-Key: k3yk3y'": "k3yk3y",
    "Set-Cookie: sid=s3cr3t; Path=/": "s3cr3t",
    "https://me:hunter22@example.com/x": "hunter22",
    "postgres://u:p4ss@h/db": "p4ss",
    f"https://x/?token={RUN}&y=1": RUN,
    f"https://a.blob/x?sv=1&sig={RUN}": RUN,
    "curl -u me:hunter2 http://x": "hunter2",
    "curl -sS -X POST --user 'me:hunter2' http://x": "hunter2",
    "mysql --password=hunter2": "hunter2",
    "tool --token abcdefgh": "abcdefgh",
    "sshpass -p hunter2 ssh x": "hunter2",
    "requests.get(u, auth=('me', 'hunter2'))": "hunter2",
    "openssl rsa -in k -passin pass:hunter2": "hunter2",
    "mysql -u root -phunter2 db": "hunter2",
    "docker login -u me -p hunter2": "hunter2",
    "<server><password>hunter2</password></server>": "hunter2",
    "ALTER USER me WITH PASSWORD 'hunter2'": "hunter2",
    "CREATE USER me IDENTIFIED BY 'hunter2'": "hunter2",
    f"npm config set //npm.example.com/:_authToken {RUN}": RUN,
    # Names, as programs and settings write them.
    "api_key: |\n  hunter2": "hunter2",
    "token: >-\n    hunter2\n    hunter3\nname: x": "hunter3",
    "FROM x\nENV API_KEY hunter2": "hunter2",
    "ENV DB_PASSWORD hunter": "hunter",
    "aws configure set aws_secret_access_key hunter2": "hunter2",
    "pip config set global.api_key 'hunter2'": "hunter2",
    "git config --global github.token hunter2": "hunter2",
    "set -gx API_KEY hunter2": "hunter2",
    "setx API_KEY hunter2": "hunter2",
    "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": "wJalr",
    "export PGPASSWORD='hunter'": "hunter",
    "DB_PASSWORD=hunter": "hunter",
    "password: hunter2": "hunter2",
    "kubectl create secret generic x --from-literal=password=hunter": "hunter",
    "Server=db;User=me;Password=hunter;": "hunter",
    "mysql --password=hunter": "hunter",
    "password=12345678": "12345678",
    'password = "hunter"': "hunter",
    f"accessToken: '{RUN}'": RUN,
    f'authToken="{RUN}"': RUN,
    f'{{"refreshToken":"{RUN}"}} or so': RUN,
    f"const apiKey = `{RUN}`;": RUN,
    'echo "{\\"client_secret\\": \\"hunter2\\"}"': "hunter2",
    f"//npm.example.com/:_authToken={RUN}": RUN,
    "_auth=dXNlcjpwYXNzd29yZA==": "dXNlcjp",
    "machine github.com login me password hunter2": "hunter2",
    "machine h\n  login me\n  password hunter2\n": "hunter2",
    f"DefaultEndpointsProtocol=https;AccountKey={RUN}==": RUN,
}
KEPT = [
    "bypass the compass: 5",
    "compass=north1",
    'passage = "x1"',
    f"sha256:{HEX}",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b",
    "550e8400-e29b-41d4-a716-446655440000",
    "def f(token: str, password: str | None = None) -> None: ...",
    "token = get_token()",
    "connect(user=user, password=password)",
    "self.password = password",
    "if token == 'x1': y",
    "max_tokens=100, tokens: 5, PROBE_TOKEN = 1",
    "eos_token=\"</s>\", pad_token='PAD1'",
    "os.environ['API_KEY'] or os.environ[\"API_KEY\"]",
    "password: $PASSWORD",
    "description: |\n  secret things\npassword:\n  none",
    "password: |\n  $PASSWORD",
    "ENV API_KEY $API_KEY",
    "set the token before you start, and config the password with care",
    "https://someone@example.com/x, ssh://git@github.com/x, https://first.last@x.example.com",
    "https://x/?key=title&sort=up&code=4",
    "pull-request, re_compile_everything_again_here, ntn_short, fw_update_1",
    "Authorization: Bearer $TOKEN",
    "Bearer authentication is used",
    "docker run -u 1000:1000 x; curl -u 1000:1000",
    "chown -u me:us; ssh -p 2222 x; mkdir -p some/folder1; cp -pr a1 b",
    "docker run -p 8080:80 x1",
    "<token>$TOKEN</token> <password></password>",
    "http://localhost:8080/x@y",
    "see https://example.com/a:b@c",
    "tokenizer.decode(token_ids)",
    "class='sk-estimator-doc-link sk-toggleable__content'",
    "risk-score-1234567890abcdef and task-1234567890abcdefgh",
    "primary_key='id1'; keyword='x1'; monkey: banana1; turkey=5",
    '<input type="password" name="password" id="password1">',
    "label: { password: 'Password' }",
    "git log --author=me1",
    "password_policy: strict8",
    "the token is gone",
    "grep -n password config.py",
    "sorted(x, key=lambda x: x[1])",
]


def test_every_form_has_an_example() -> None:
    """What is listed is tried."""
    for form in FORMS:
        assert any(form.pattern.search(text) for text in HIDDEN), form.name


@pytest.mark.parametrize("text", HIDDEN)
def test_a_secret_is_masked(text: str) -> None:
    """Alone, in the middle of a text, and as a value of JSON."""
    secret = HIDDEN[text]
    for whole in (text, f"some text\n{text}\nmore", f"## {text} "):
        found = redacted_text(whole)
        assert MASK in found and secret not in found
        assert secret not in redacted(json.dumps({"content": [whole]}))


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_secret_stays_byte_for_byte(text: str) -> None:
    """Words about secrets are no secrets, and neither is code."""
    assert redacted_text(text) == text
    as_json = json.dumps({"content": text, "n": [1.0, None, True]}, separators=(",", ":"))
    assert redacted(as_json) == as_json


def test_a_line_of_settings_may_hold_a_word() -> None:
    """What would be code within a line is a value where nothing else stands in it."""
    found = redacted_text("user=me\npassword=hunter\nport=1\n")
    assert found == f"user=me\npassword={MASK}\nport=1\n"


NAMED: list[tuple[Any, Any]] = [
    ({"password": "hunter"}, {"password": MASK}),
    ({"headers": {"Authorization": "x"}}, {"headers": {"Authorization": MASK}}),
    ({"env": [{"API_KEY": "abc"}]}, {"env": [{"API_KEY": MASK}]}),
    ({"accessToken": 12345, "b": 5}, {"accessToken": MASK, "b": 5}),
    ({"secret": {"v": ["a", 1]}}, {"secret": {"v": [MASK, MASK]}}),
    ({"credentials": [1.5, "x", None]}, {"credentials": [MASK, MASK, None]}),
    ({"name": "DB_PASSWORD", "value": "x"}, {"name": "DB_PASSWORD", "value": MASK}),
    (["tool", "--api-key", "x", "-v"], ["tool", "--api-key", MASK, "-v"]),
    (["curl", "-u", "me:x"], ["curl", "-u", MASK]),
    ({"password": True, "token": None, "secret": ""}, None),
    ({"pass": 12, "max_tokens": "10", "tokens": 5, "author": "me"}, None),
    ({"properties": {"password": {"type": "string", "minLength": 8}}}, None),
]


@pytest.mark.parametrize(("given", "wanted"), NAMED)
def test_a_value_is_masked_by_its_name(given: Any, wanted: Any) -> None:
    """Whatever its type; what can't be a secret is left alone, as are schemas of tools."""
    found = redacted(json.dumps(given))
    assert json.loads(found) == (given if wanted is None else wanted)


SECRET_NAMES = "accessToken AuthToken refresh_token REFRESH_TOKEN client-secret apikey api_key_2 \
dbpassword userPassword PGPASSWORD x-api-key privateKey aws_secret_access_key smtp_pass \
SECRET_KEY_BASE"
OTHER_NAMES = (
    "bypass compass tokens max_tokens tokenizer eos_token next_page_token token_count key \
public_key primary_key passwordless password_policy passenger author authority secretary"
)


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_a_name_is_known_in_any_case_style(name: str) -> None:
    """Words joined by capitals, dashes or nothing."""
    assert is_secret(name)


@pytest.mark.parametrize("name", OTHER_NAMES.split())
def test_a_name_that_only_sounds_like_it_is_none(name: str) -> None:
    """Words that hold another, and secrets' lengths, policies and counts."""
    assert not is_secret(name)


@pytest.mark.parametrize(
    "text", ['{"password": "%s', 'password="%s', "api_key: '%s\nmore", '{"a": "{\\"token\\": \\"%s']
)
def test_a_value_whose_quote_is_left_open_is_masked(text: str) -> None:
    """As in a call or an answer that was cut."""
    found = redacted(text % "Zx9Qw7Rt5Yp3Lk1m")
    assert MASK in found and "Zx9" not in found
    assert redacted(text % "two words") == text % "two words"


def test_text_that_is_no_json_is_searched_too() -> None:
    """A call that could not be parsed may hold a key as well."""
    assert redacted("{'k': 'ghp_0123456789012345678901'") == "{'k': '" + MASK + "'"


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_nothing_that_is_json_breaks_it(value: Any) -> None:
    """What comes out is JSON of the same shape."""
    text = json.dumps(value)
    assert type(json.loads(redacted(text))) is type(value)


def test_what_is_nested_without_end_is_masked() -> None:
    """As text, where it is deeper than anything real."""
    text = '{"a":' * 400 + json.dumps(f"ghp_{RUN}") + "}" * 400
    assert RUN not in redacted(text)
    assert RUN not in redacted('{"a":' * 100_000 + f'"ghp_{RUN}"')


HOSTILE = (
    *("eyJ-", "eyJaaaaaaaa.", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "password=", "token='"),
    *('token="a b', "cookie: a=", "://a:", "login a ", "curl -u a:b ", "auth=('a','", "password: "),
    *(
        "a=b&sig=",
        "bearer 1",
        "sk-aaaa",
        "_",
        "key",
        "pass-",
        "token-",
        "secret=a=",
        '\\"secret\\":',
    ),
    *(
        each
        for form in (*TOKENS, *HEADERS, *IN_MARKUP, *LOGINS, CURL_USER)
        for each in form.literals
    ),
)


def test_work_grows_with_the_text_alone() -> None:
    """Repeats of what begins each form: eight times the text takes about eight times as long.

    One quadratic rule among them would make it at least twice that.
    """
    seconds = []
    for size in (1 << 12, 1 << 15):
        texts = [(each * (size // len(each) + 1))[:size] for each in HOSTILE]
        rounds = []
        for _ in range(2):
            began_s = time.process_time()
            for text in texts:
                redacted_text(text)
            rounds.append(time.process_time() - began_s)
        seconds.append(min(rounds))
    assert seconds[1] / seconds[0] < 16
