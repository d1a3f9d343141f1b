"""What Jinja makes of the constructs that published chat templates use, and of their neighbours.

    python tests/reference/jinja2_constructs.py

Writes `tests/fixtures/language/jinja2.json`: sources and their text, rendered by the environment that transformers uses, or
`null` where it fails. Needs jinja2 only.
"""

import json
from pathlib import Path

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

TARGET = Path(__file__).parents[1] / "fixtures/language/jinja2.json"

CONTEXT = {
    "text": "Hello World",
    "padded": "  a b  ",
    "lines": "one\ntwo\n\nthree",
    "number": 42,
    "float": 2.5,
    "none": None,
    "flag": True,
    "items": [3, 1, 2],
    "words": ["b", "a", "C"],
    "map": {"b": 1, "a": 2},
    "users": [{"name": "Ann", "age": 3}, {"name": "Bob", "age": 5}, {"name": "Cy", "age": 3}],
}

EXPRESSIONS = r"""
"%s" % text
"%s and %s" % (text, number)
"%d%%" % number
"%05.1f" % float
"%(a)s" % map
"%r" % text
"%5s|" % number
"%-5s|" % number
"%x" % number
"%s" % none
"%s" % items
number % 5
-7 % 3
7.5 % 2
"{}".format(text)
"{0} {1} {0}".format(text, number)
"{a}".format(a=number)
"{:>5}".format(number)
"{:.2f}".format(float)
"{:05d}".format(number)
"{{}}".format()
"{!r}".format(text)
"%s" | format(text)
"%s %s" | format(text, number)
text.rsplit(" ", 1)
text.rsplit("o")
padded.rsplit()
text.rsplit("o", 1)[0]
text.split("o", 1)
text.split()
padded.split()
text.split(" ")
text.index("o")
text.rindex("o")
text.find("o")
text.rfind("o")
text.find("zz")
items.index(1)
text.index("zz")
"7".zfill(3)
"-7".zfill(4)
"abc".zfill(2)
number | string | length
text.ljust(13) ~ "|"
text.rjust(13)
text.center(15) ~ "|"
text.center(14, "*")
text.partition(" ")
text.rpartition("o")
text.partition("zz")
text.swapcase()
text.casefold()
"Straße".casefold()
text.title()
text.capitalize()
text.upper()
text.lower()
text.strip("Hd")
padded.lstrip()
padded.rstrip()
text.replace("o", "0")
text.replace("o", "0", 1)
text.count("o")
text.startswith("He")
text.endswith(("x", "ld"))
text.startswith("x")
text.isupper()
"abc".islower()
"12".isdigit()
"a1".isalnum()
"ab".isalpha()
" ".isspace()
"Ab Cd".istitle()
"abc".isidentifier()
"12".isdecimal()
text.removeprefix("He")
text.removesuffix("ld")
"a\tb".expandtabs(4)
lines.splitlines()
lines.splitlines(true)
"-".join(words)
words | join("-")
users | join(", ", attribute="name")
users | join(attribute="name")
users | map(attribute="name") | join(",")
users | map(attribute="age") | sum
users | sum(attribute="age")
users | sum(attribute="age", start=10)
users | selectattr("age", "equalto", 3) | list | length
users | rejectattr("age", "gt", 3) | map(attribute="name") | list
users | groupby("age") | list | length
users | sort(attribute="name", reverse=true) | map(attribute="name") | list
users | unique(attribute="age") | map(attribute="name") | list
users | max(attribute="age")
users | min(attribute="age")
items | sort
items | reverse | list
items | first
items | last
items | length
items | max
items | min
items | sum
items[1:]
items[::-1]
items[-1]
words | sort
words | sort(case_sensitive=true)
words | unique | list
words | map("upper") | list
words | select("equalto", "a") | list
words | reject("equalto", "a") | list
items | batch(2) | list
items | batch(2, 0) | list
items | slice(2) | list
text | wordcount
text | center(15) ~ "|"
text | truncate(8)
text | truncate(8, true, "")
text | wordwrap(5)
text | indent(2)
lines | indent(2)
lines | indent(2, true)
lines | indent(width=2, blank=true)
text | replace("l", "L")
text | reverse
text | upper
text | lower
text | title
text | capitalize
padded | trim
text | trim("Hd")
text | list | length
text | string
number | float
float | int
"12" | int
"x" | int(5)
"2.5" | float
float | round
float | round(0, "ceil")
float | round(0, "floor")
2.345 | round(2)
(-5) | abs
map | dictsort
map | items | list
map.items() | list
map.keys() | list
map.values() | list
map.get("a")
map.get("zz")
map.get("zz", 5)
map["a"]
map.a
"a" in map
"zz" not in map
map | length
map | tojson
items | tojson
text | tojson
none | tojson
flag | tojson
float | tojson
map | tojson(indent=2)
"<é>" | tojson
map | list
map | xmlattr
none | default("d")
missing | default("d")
none | default("d", true)
"" | d("d", true)
missing is defined
text is string
number is number
items is sequence
map is mapping
flag is boolean
number is integer
float is float
none is none
number is even
number is odd
number is divisibleby(7)
text is lower
text is upper
text is in(["Hello World"])
1 is sameas(1)
items is iterable
text is callable
"trim" is filter
"odd" is test
2 is eq(2)
2 is gt(1)
text is escaped
number // 5
number / 5
2 ** 5
-number
+number
number * 2
"ab" * 3
items + [4]
(1, 2)
[1, 2] == [1, 2]
1 < 2 < 3
1 if flag else 2
1 if none
none or 5
number and 0
not flag
text ~ number ~ none
text[0]
text[-5:]
text[::2]
text[1:3]
range(3) | list
range(1, 7, 2) | list
dict(a=1)
namespace(a=1).a
loop is defined
"a" "b"
'it''s'
"\u00e9"
1_000
1e3
0x1f
true
True
none
None
[1, 2,]
{"a": 1,}
(1,)
text | escape
"<b>" | e
"<b>" | striptags
"a b" | urlencode
["a", ["b"]] | string
users | selectattr("name") | list | length
users | map(attribute="zz", default="d") | list
users | tojson
items | random is number
text | filesizeformat
1000 | filesizeformat
map | pprint
""".strip().split("\n")

STATEMENTS = [
    "{% for i in items %}{{ loop.index }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{% endfor %}",
    "{% for i in items %}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.changed(i) }}{% endfor %}",
    "{% for i in items if i > 1 %}{{ i }}{% else %}none{% endfor %}",
    "{% for i in [] %}{{ i }}{% else %}none{% endfor %}",
    "{% for k, v in map.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for i in items recursive %}{{ i }}{{ loop.depth }}{% endfor %}",
    "{% for i in items %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% if i == 2 %}{% break %}{% endif %}{% endfor %}",
    "{% set x = 5 %}{{ x }}{% set y %}block{% endset %}{{ y }}{% set y | upper %}block{% endset %}{{ y }}",
    "{% set ns = namespace(n=0) %}{% for i in items %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1) }}{{ m(1, 3, 4, c=5) }}",
    "{% macro m(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(b=1, a=2) }}{{ m.name }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}inside{% endcall %}",
    "{% filter upper %}text{% endfilter %}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}",
    "{% raw %}{{ text }}{% endraw %}",
    "{# comment #}a{#- trimmed -#} b",
    "a {%- if flag %} b {% endif -%} c",
    "{% if none %}a{% elif flag %}b{% else %}c{% endif %}",
    "{% if text is string and text | length > 3 %}yes{% endif %}",
    "{% do items.append(4) %}{{ items }}",
    "{{ cycler('a', 'b').next() }}",
    "{% set j = joiner(', ') %}{% for i in items %}{{ j() }}{{ i }}{% endfor %}",
    "{% for i in items %}\n  {{ i }}\n{% endfor %}\n",
    "{{ text\n   | upper }}",
    "{{- text -}}  \n  {{ number }}",
    "{% block a %}in block{% endblock %}",
    "{% set text = 'inner' %}{% for i in [1] %}{% set text = 'loop' %}{% endfor %}{{ text }}",
    "{{ users | map(attribute='name') | map('upper') | join(' ') }}",
    "{% for group in users | groupby('age') %}{{ group.grouper }}:{{ group.list | length }} {% endfor %}",
    "{% for age, members in users | groupby('age') %}{{ age }}:{{ members | length }} {% endfor %}",
]


def sources() -> list[str]:
    return ["{{ " + expression + " }}" for expression in EXPRESSIONS] + STATEMENTS


def environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    made.filters["tojson"] = lambda value, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    return made


def main() -> None:
    made = environment()
    cases = []
    for source in sources():
        try:
            text = made.from_string(source).render(**json.loads(json.dumps(CONTEXT)))
        except Exception:
            text = None
        cases.append({"source": source, "text": text})
    written = json.dumps({"jinja2": jinja2.__version__, "context": CONTEXT, "cases": cases}, ensure_ascii=False, indent=1)
    TARGET.write_text(written + "\n")
    print(f"{len(cases)} cases, {sum(case['text'] is None for case in cases)} of them fail")


main()
