"""People who buy and goods that are sold in the simulated stores: made up, with the characters that break software."""

from __future__ import annotations

import random
from dataclasses import dataclass

from gateway.sandbox.orders import Address


@dataclass(frozen=True, slots=True)
class Product:
    """One thing to buy; the price is in hundredths of the store's currency."""

    id: int
    variant_id: int
    sku: str
    title: str
    variant: str
    cents: int


PRODUCTS = (
    Product(101, 1101, "MUG-SAGE", "Stoneware mug", "Sage", 1850),
    Product(101, 1102, "MUG-CLAY", "Stoneware mug", "Terracotta", 1850),
    Product(102, 1103, "POT-S", "Hand-thrown planter", "Small", 2400),
    Product(102, 1104, "POT-L", "Hand-thrown planter", "Large", 5600),
    Product(103, 1105, "FERN-BOS", "Boston fern \U0001f33f", "", 1999),
    Product(104, 1106, "BOWL-SET4", "Ramen bowls, set of 4", "Indigo", 7200),
    Product(105, 1107, "CARD-10", "Pressed-fern cards (10)", "", 1000),
    Product(106, 1108, "VASE-TALL", 'Bud vase 9" tall', "Chalk", 3125),
    Product(107, 1109, "WS-CLAY", "Clay evening, two seats", "", 9000),
    Product(108, 1110, "SOAP-3", "Soap & dish <gift set>", "", 1435),
    Product(109, 1111, "TEA-KYU", "Kyusu teapot 急須", "", 8850),
    Product(110, 1112, "COAST-4", "Cork coasters", "Set of 4", 333),
)

_PLACES = (
    (
        "12 Rye Lane",
        "Flat 3",
        "London",
        "England",
        "ENG",
        "SE15 5BS",
        "United Kingdom",
        "GB",
        "+44 20 7946 0018",
    ),
    (
        "4 Harbour Road",
        "",
        "Bristol",
        "England",
        "ENG",
        "BS1 4RN",
        "United Kingdom",
        "GB",
        "+44 117 496 0112",
    ),
    ("Skjolds gate 9", "", "Bergen", "", "", "5013", "Norway", "NO", "+47 55 00 01 02"),
    ("Torstraße 140", "Hinterhaus", "Berlin", "", "", "10119", "Germany", "DE", "+49 30 5550 123"),
    (
        "1-5-2 Higashi-Shimbashi",
        "",
        "Minato-ku",
        "Tokyo",
        "JP-13",
        "105-7123",
        "Japan",
        "JP",
        "+81 3 5550 0101",
    ),
    (
        "350 5th Avenue",
        "Apt 21B",
        "New York",
        "New York",
        "NY",
        "10118",
        "United States",
        "US",
        "+1 212 555 0100",
    ),
    (
        "77 Massachusetts Ave",
        "",
        "Cambridge",
        "Massachusetts",
        "MA",
        "02139",
        "United States",
        "US",
        "617-555-0142",
    ),
    ("רחוב הרצל 16", "", "תל אביב", "", "", "6688101", "Israel", "IL", "+972 3 555 0107"),
    ("Calle Mayor 8, 2º izq.", "", "Madrid", "Madrid", "M", "28013", "Spain", "ES", "+34 91 555 01 23"),
    ("18 Rue de l’Odéon", "", "Paris", "", "", "75006", "France", "FR", "+33 1 55 50 01 23"),
)

_PEOPLE = (
    ("Ada", "Okafor"), ("Siân", "O'Brien"), ("Bjørn", "Åkesson"), ("Zoë", "Müller-Lüdenscheidt"),
    ("さくら", "田中"), ("Priya", "Raghunathan"), ("Wm.", "de la Cruz III"), ("נועה", "לוי"),
    ("José", "Núñez"), ("Chloé", "D’Arcy \U0001f98a"), ("مريم", "الهاشمي"), ("Kim", "Li"),
)  # fmt: skip


def someone(rng: random.Random) -> tuple[Address, str, int]:
    """A buyer: address, e-mail, and the number that the store knows the buyer by."""
    index = rng.randrange(len(_PEOPLE))
    first, last = _PEOPLE[index]
    return at_place(rng, first, last), f"buyer{index + 1}.{rng.randrange(40)}@customer.example", 7000 + index


def at_place(rng: random.Random, first: str, last: str) -> Address:
    """The address of a person of that name."""
    line_1, line_2, city, province, code, postcode, country, country_code, phone = rng.choice(_PLACES)
    company = "Fig & Fern Ltd" if rng.random() < 0.1 else ""
    return Address(first, last, company, line_1, line_2, city, province, code, postcode, country, country_code, phone)


CARRIERS = (
    ("Royal Mail", "https://track.example/rm/"),
    ("DHL", "https://track.example/dhl/"),
    ("USPS", "https://track.example/usps/"),
)
NOTES = (
    "Please leave it with the neighbour \U0001f381",
    "It is a present: no invoice in the box, please.",
    "Ring twice & wait <thanks>",
    "שלום, נא להתקשר לפני המשלוח",
    "Second line\nof a note",
)
