"""Four scoring functions of a text's style: plain counts of what a reader can see, in which small LLMs' answers differ.

They say nothing of whether a text is good, true, or keeps to its topic. All are 0 for an empty text, never negative,
and bounded (numbers of things are capped), so that no text wins by repeating one trick without end.
"""

import math
import re
from collections.abc import Callable, Mapping


def _set(words: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", words))


_WARM = _set("""
    adorable adore amazing awesome beautiful beloved best blessed brave brilliant bursting cheerful cheers cherish cosy
    cozy cute darling dear dearest delight delighted delightful dream enjoy excited fabulous fantastic friend friends
    fun funny glad gorgeous grateful great happiness happy heart heartbroken hearts hello heroes hey hooray hug hugged
    hugs incredible joy joyful kind kindness kisses laugh laughed laughter love loved lovely loves loving pal perfect
    proud smile smiles smiling special star sunshine super sweet sweetest sweetheart thrilled together treasure waving
    welcome wonderful wow yay
""")
_VIVID = _set("""
    amber aroma autumn bare bitter black blackbird blaze blazing bleak blossom blue breeze bright bronze bruised brown
    burning burnt buzzing candle cherry chilly chirping clatter cloud clouds coals cold copper cracked crackle crackles
    crackling creaking creaks creamy crimson crisp crooked crumpled crunch crunches crunchy curl damp dancing dark
    darkness dawn dazzling dewy drift drifting drifts drip dripping dull dusk dust dusty echo fiery flames flicker
    flickering floating flushed foggy fragrance fragrant freezing fresh frost frosty gleam gleaming glistening glitter
    glittering glitters gloomy glow glowing glows gold golden gravel green grey groan growl gust hazy hiss hisses honey
    hot howl howls hum humming hums ice icy ivory juicy lavender leaves light lush melting mist misty moan moaning moon
    moonlight moss mossy mud muddy murmur orange pale petals pine pink pour pours purple purr purred rain rattle raw red
    ribbon ripe roar roaring rose rough rumble rumpled rust rustle rustling rusty salt salty sand scarlet scent
    scratchy scream screamed shadow shadows shimmer shimmering shining shivering silent silk silky silver sizzle
    sizzling sky slick smell smells smoke smoky smooth snow soaked soft softly song sour sparkle sparkling sparks spat
    spicy squelching starlight steam steaming sticky sting stone storm stormy sun sunlight sunny suns sunset sweet
    swirling tangy thick thudded thunder trembling twilight velvet vibrant vivid warm waves wet wheezed whirl whisper
    whispering whispers whistle white wild wind winds windswept windy wisteria woodsmoke yellow
""")


def brevity(text: str) -> float:
    """Short texts: 1 at up to six words, falling by a factor e with every ten more; nothing is not short."""
    count = len(_words(text))
    return math.exp(-max(count - 6, 0) / 10) if count else 0.0


def warmth(text: str) -> float:
    """Affectionate words, and up to three exclamation marks."""
    return float(min(sum(word in _WARM for word in _words(text)), 4) + min(text.count("!"), 3))


def questions(text: str) -> float:
    """Question marks, up to three."""
    return float(min(text.count("?"), 3))


def vividness(text: str) -> float:
    """Words for what one sees, hears, smells and feels, up to six."""
    return float(min(sum(word in _VIVID for word in _words(text)), 6))


SCORES: Mapping[str, Callable[[str], float]] = {
    score.__name__: score for score in (brevity, warmth, questions, vividness)
}


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text.lower().replace("’", "'"))
