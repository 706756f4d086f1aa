"""The numbers from 0 to 999 in words of five languages, made by the languages' own rules: texts to classify by language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from diva.data.bundled.rows import write_table
from diva.data.formats import deal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

N_NUMBERS: Final = 1000


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ENGLISH: Final = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_ENGLISH_TENS: Final = _words("- - twenty thirty forty fifty sixty seventy eighty ninety")
_FRENCH: Final = _words(
    "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit dix-neuf"
)
_FRENCH_TENS: Final = _words("- - vingt trente quarante cinquante soixante soixante quatre-vingt quatre-vingt")
_GERMAN: Final = _words(
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn "
    "achtzehn neunzehn"
)
_GERMAN_TENS: Final = _words("- - zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")
_ITALIAN: Final = _words(
    "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici sedici "
    "diciassette diciotto diciannove"
)
_ITALIAN_TENS: Final = _words("- - venti trenta quaranta cinquanta sessanta settanta ottanta novanta")
_SPANISH: Final = _words(
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete "
    "dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete veintiocho "
    "veintinueve"
)
_SPANISH_TENS: Final = _words("- - - treinta cuarenta cincuenta sesenta setenta ochenta noventa")
_SPANISH_HUNDREDS: Final = _words(
    "- ciento doscientos trescientos cuatrocientos quinientos seiscientos setecientos ochocientos novecientos"
)


def english(n: int) -> str:
    """A number in English, as in Britain: with "and"."""
    if n >= 100:
        return f"{_ENGLISH[n // 100]} hundred" + (f" and {english(n % 100)}" if n % 100 else "")
    if n < 20:
        return _ENGLISH[n]
    return _ENGLISH_TENS[n // 10] + (f"-{_ENGLISH[n % 10]}" if n % 10 else "")


def french(n: int) -> str:
    """A number in French, as in France: soixante-dix, quatre-vingts."""
    if n >= 100:
        many = "" if n < 200 else f"{_FRENCH[n // 100]} "
        rest = f" {french(n % 100)}" if n % 100 else ""
        return f"{many}cent{'s' if many and not rest else ''}{rest}"
    if n < 20:
        return _FRENCH[n]
    ten = n // 10
    ones = n - 10 * (ten - ten % 2 if ten >= 6 else ten)
    if not ones:
        return _FRENCH_TENS[ten] + ("s" if n == 80 else "")
    joined = " et " if ones in (1, 11) and n < 80 else "-"
    return _FRENCH_TENS[ten] + joined + _FRENCH[ones]


def german(n: int) -> str:
    """A number in German."""
    if n >= 100:
        return f"{_GERMAN[n // 100].removesuffix('s') if n < 200 else _GERMAN[n // 100]}hundert" + (
            german(n % 100) if n % 100 else ""
        )
    if n < 20:
        return _GERMAN[n]
    one = "ein" if n % 10 == 1 else _GERMAN[n % 10]
    return (f"{one}und" if n % 10 else "") + _GERMAN_TENS[n // 10]


def italian(n: int) -> str:
    """A number in Italian."""
    if n >= 100:
        return ("" if n < 200 else _ITALIAN[n // 100]) + "cento" + (italian(n % 100) if n % 100 else "")
    if n < 20:
        return _ITALIAN[n]
    ten, one = _ITALIAN_TENS[n // 10], n % 10
    if not one:
        return ten
    return (ten[:-1] if one in (1, 8) else ten) + ("tré" if one == 3 else _ITALIAN[one])


def spanish(n: int) -> str:
    """A number in Spanish."""
    if n == 100:
        return "cien"
    if n >= 100:
        return _SPANISH_HUNDREDS[n // 100] + (f" {spanish(n % 100)}" if n % 100 else "")
    if n < 30:
        return _SPANISH[n]
    return _SPANISH_TENS[n // 10] + (f" y {_SPANISH[n % 10]}" if n % 10 else "")


LANGUAGES: Final[dict[str, Callable[[int], str]]] = {
    "English": english,
    "French": french,
    "German": german,
    "Italian": italian,
    "Spanish": spanish,
}


def write_number_words(folder: Path) -> None:
    """`<split>/texts.csv`; a number is in one split in all languages, so that no translation of a test text is in train."""
    dealt = deal("number_words", range(N_NUMBERS), 0.25, 0.2)
    rows = [(say(n), language) for n in range(N_NUMBERS) for language, say in LANGUAGES.items()]
    splits = [dealt[n] for n in range(N_NUMBERS) for _ in LANGUAGES]
    write_table(folder, ("text", "label"), rows, splits, "texts.csv")
