"""What prompts say and how they are read: the words, looser phrasings for training, a tokenizer of whole words."""

from __future__ import annotations

import random

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast

import clips

WORDS = (
    ["a", "an", "the", "moving", "on", "background"]
    + list(clips.COLORS)
    + list(clips.SHAPES)
    + list(clips.DIRECTIONS)
    + list(clips.BACKGROUNDS)
)
SPELLINGS = {"grey": "gray", "moves": "moving"}


def vocabulary() -> dict:
    """The prompts' vocabulary for `demo.json`."""
    return {
        "words": WORDS,
        "spellings": SPELLINGS,
        "colors": list(clips.COLORS),
        "shapes": list(clips.SHAPES),
        "directions": list(clips.DIRECTIONS),
        "backgrounds": list(clips.BACKGROUNDS),
        "template": "a {color} {shape} moving {direction} on a {background} background",
    }


def phrase(spec: clips.Spec, still: bool) -> list[str]:
    """A prompt for the spec: mostly the full sentence, sometimes shorter, looser, with a foreign word, or empty."""
    if random.random() < 0.1:
        return []
    words = spec.prompt.split()
    if still and random.random() < 0.5:
        words = clips.STILL_PROMPTS[spec.color, spec.shape, spec.background].split()
    style = random.random()
    if style < 0.75:
        return words
    if style < 0.85:
        words = [w for w in words if w not in ("a", "on", "background")]
    if style > 0.80 and random.random() < 0.5:
        words = [random.choice(("the", "an")) if w == "a" else w for w in words]
    if style > 0.90 and random.random() < 0.5 and spec.background in words:
        at = words.index(spec.background)
        words = words[: max(0, at - 2)]  # no word about the background
    if style > 0.95:
        words = list(words)
        words.insert(random.randrange(len(words) + 1), "big")
    return words


def spread(count: int) -> list[str]:
    """Prompts spread evenly over colours, shapes, directions and backgrounds."""
    specs, picked = list(clips.ALL_SPECS), []
    random.Random(24).shuffle(specs)
    used: dict[str, int] = {}
    while specs and len(picked) < count:
        best = min(specs, key=lambda s: sum(used.get(w, 0) for w in (s.color, s.shape, s.direction, s.background)))
        specs.remove(best)
        picked.append(best.prompt)
        for word in (best.color, best.shape, best.direction, best.background):
            used[word] = used.get(word, 0) + 1
    return picked


def word_tokenizer(special: list[str], template: list[str], length: int, padding_side: str, **names) -> PreTrainedTokenizerFast:
    """A Unigram tokenizer with whole words as its only pieces: one id per word, else <unk>. `template` says what stands
    around the text ($A); `names` are the tokens' roles (`pad_token="<pad>"`, ...)."""
    pieces = [(token, 0.0) for token in special] + [("▁" + word, -1.0) for word in WORDS]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=special.index("<unk>"), byte_fallback=False))
    spellings = [normalizers.Replace(Regex(rf"\b{old}\b"), new) for old, new in SPELLINGS.items()]
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"[.,;:!?]+"), " "), *spellings]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    around = [token for token in template if token != "$A"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template,
        pair=template + [token.replace("$A", "$B") for token in template],
        special_tokens=[(token, special.index(token)) for token in around],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", model_max_length=length, padding_side=padding_side, **names
    )
