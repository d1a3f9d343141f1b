"""Golden fixture of prompt cleaning, against diffusers' `prompt_clean` for Wan and ftfy, which it calls.

    python tests/reference/prompt_cleaning.py [cases] [seed]

`pairs` has every accented letter of Latin-1 before every sign of Windows-1252, in good text. `cases` are sentences of
several languages that were decoded wrongly, whole or in part, once or twice, with lost bytes, character references and
formatting characters, and the texts of reported faults.
"""

import json
import random
import sys

import ftfy.bad_codecs  # noqa: F401, its codecs are used by name
from common import FIXTURES
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from ftfy import badness, chardata

CONTEXTS = ("CAF{}{}s", "a {}{} b", "x{}{}")
LETTERS = "".join(map(chr, range(0xC0, 0x100)))
SIGNS = [bytes([byte]).decode("sloppy-windows-1252") for byte in range(0x80, 0xC0)]
SENTENCES = (
    "It’s a “cat” — schön, groß und weiß",
    "voilà le travail à la mode, l’humanité française",
    "às vezes não há pão, à noite",
    "El niño comió piñas ¿dónde? ¡aquí!",
    "Zażółć gęślą jaźń",
    "Příliš žluťoučký kůň",
    "Красный круг движется вправо",
    "Το κόκκινο κύκλο κινείται δεξιά",
    "kırmızı daire sağa gidiyor, İstanbul",
    "Ąžuolas ir šaltinis, ūkanotas rytas",
    "一只红色的猫在桌子上",
    "日本語のテキスト、カタカナ",
    "빨간 원이 움직인다",
    "دائرة حمراء تتحرك",
    "עיגול אדום",
    "लाल वृत्त चलता है",
    "วงกลมสีแดง",
    "😀 a smiling face 🏳️‍🌈 ✔ 10° ½ × 3² €5 £6",
    "a red circle, ASCII only",
    "CAFÉ’S NESCAFÉ® POKÉMON™ BEYONCÉ…",
    "(╯°□°)╯︵ ┻━┻ ¯\\_(ツ)_/¯",
)
REPORTED = (
    "a  red\tcircle\n moving ",
    "fish &amp;amp; chips &lt;b&gt; &eacute;t&eacute; &#39;x&#39; P&EACUTE;REZ BUNDESSTRA&SZLIG;E &nTILDE;",
    "&#0;&#1;&#128;&#129;&#150;&#xD800;&#x110000;&#xfffe;&#59;&#38;amp; &AMP &notit; &copy 2024 &hellip;x",
    "<b>bold</b> &amp; plain\n&amp;amp; after a tag &lt;",
    "first &hellip; line\n<i>second</i> &hellip;\nthird &hellip;",
    "ﬁne ﬂag ŉ Ǆ Ĳ ﬅ ＡＢＣ１２３　Ｕﾀｰﾝ ｶﾞ ＂x＇ ￦ ﾡ",
    "\x1b[31;1mred\x1b[0m\x07 circle\ufeff \x1b[x \u206a\ufffc",
    "e\u0301te\u0301 \u212b \u2126 line\u2028break\u2029and\x85next\r\nlast\rone",
    "\u200bzero\u200d width\u00ad",
    "été VOILÀ\nnext", "Ã©tÃ© VOILÃ\x80\nÃ©tÃ© VOILÀ\nnext",
    "10Â° a Â b Ã la mode Â",
    "schÃ¶n und groß", "schÃ¶n 日本", "lâ€™humanitÃ© â€œtestâ€\x9d â€�", "Ã?tÃ© Ã�", "\x1aÃ©",
    "\x93quoted\x94 \x96 dash\x85", "\x81Ã©\x8d", "\xed\xa0\xbd\xed\xb2\xa9 Ã© \xc0\x80x",
    "„Es ist schÃ¶n“, sagte Ä… Ö… Ü…",
    "a neon sign that reads CAFÉ’s", "the CAFÉ’S sign", "NESCAFÉ® mug", "CAFÉ™", "LE CAFÉ…", "CAFÉ\xa0: ouvert",
    "CAFÉ\xa0!", "CITÉ—nuit", "BEYONCÉ’s dress", "ROSÉ’S", "Das macht Spaß…", "Spaß”", "Spaß’", "groß–klein",
    "weiß® Auto", "Fuß²", "GRÖSSE Ü’s", "POKÉ…", "Ä… Ö… Ü…", "It’s a “cat” — schÃ¶n", "voilÃ le travail", "a Â b",
    "l’humanitÃ©", "Été", "É", "café’s", "10Â°", "ŉ",
)  # fmt: skip


def broken(generator: random.Random, text: str) -> str:
    """The text, changed in one of the ways in which programs change text."""
    encoding = generator.choice(chardata.CHARMAP_ENCODINGS)
    way = generator.randrange(12)
    if way == 0:
        return text.encode().decode(encoding, "replace")
    if way == 1:
        return text.encode().decode("cp1252", "replace")
    if way == 2:
        return text.encode().decode("latin-1").replace("\xa0", " ")
    if way == 3:
        return broken(generator, text.encode().decode("sloppy-windows-1252"))
    if way == 4:
        words = text.split(" ")
        for at in range(len(words)):
            if generator.random() < 0.5:
                words[at] = words[at].encode().decode(encoding, "replace")
        return " ".join(words)
    if way == 5:
        at = generator.randrange(len(text) + 1)
        return text[:at] + text[at:].encode().decode("sloppy-windows-1252")
    if way == 6:
        text = broken(generator, text)
        for _ in range(generator.randrange(1, 4)):
            at = generator.randrange(len(text) + 1)
            text = text[:at] + generator.choice(["", "\ufffd", "?", "\x1a", " ", "\xa0", "<", "\n"]) + text[at + 1 :]
        return text
    if way == 7:
        return f"{text} {broken(generator, generator.choice(SENTENCES))}"
    if way == 8:
        return "".join(f"&#{ord(letter)};" if generator.random() < 0.3 else letter for letter in broken(generator, text))
    if way == 9:
        return text.encode("utf-16-le", "surrogatepass").decode("latin-1")[: 2 * len(text)]
    if way == 10:
        pool = "".join(chardata.UTF8_CLUES.values()) + "".join(badness.MOJIBAKE_CATEGORIES.values()) + "abcXYZ  ?.\x1a\n&;"
        return "".join(generator.choice(pool) for _ in range(generator.randrange(2, 25)))
    pieces = []
    for letter in text:
        pieces.append(letter.upper() if generator.random() < 0.3 else letter)
        if generator.random() < 0.1:
            pieces.append(generator.choice(SIGNS))
    return "".join(pieces)


def main() -> None:
    count, seed = (int(argument) for argument in (sys.argv[1:] + ["400", "9"][len(sys.argv) - 1 :]))
    generator = random.Random(seed)
    prompts = list(REPORTED) + list(SENTENCES)
    prompts += [broken(generator, generator.choice(SENTENCES)) for _ in range(count)]
    # Rust strings have no lone surrogates.
    cases = [[prompt, prompt_clean(prompt)] for prompt in dict.fromkeys(prompts)]
    pairs = {
        context: [[prompt_clean(context.format(letter, sign)) for sign in SIGNS] for letter in LETTERS]
        for context in CONTEXTS
    }
    folder = FIXTURES / "prompts"
    folder.mkdir(exist_ok=True)
    rows = [json.dumps(case, ensure_ascii=False) for case in cases]
    contexts = [
        f'{json.dumps(context)}: [\n' + ",\n".join(json.dumps(row, ensure_ascii=False) for row in cleaned) + "\n]"
        for context, cleaned in pairs.items()
    ]
    text = f'{{"letters": {json.dumps(LETTERS, ensure_ascii=False)},\n"signs": {json.dumps(SIGNS, ensure_ascii=False)},\n'
    text += '"pairs": {\n' + ",\n".join(contexts) + '\n},\n"cases": [\n' + ",\n".join(rows) + "\n]}\n"
    (folder / "cleaning.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
