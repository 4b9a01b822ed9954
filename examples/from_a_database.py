"""Rows of a database: any SELECT, with bound values. Here SQLite; `postgresql://user@host/name` works the same."""

import random
import sqlite3

from corelane.app import load, package, train

randomness = random.Random(7)
with sqlite3.connect("shop.db") as shop:
    shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, country TEXT, ordered DATE, items INTEGER, paid REAL)")
    for number in range(1500):
        items, day = randomness.randint(1, 9), f"2026-{number % 12 + 1:02d}-{number % 28 + 1:02d}"
        country = randomness.choice(["DE", "FR", "PL", None])
        shop.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", (number, country, day, items, items * 9.5 + 4))
shop.close()

source = {
    "type": "database",
    "url": "sqlite:///shop.db",
    "query": "SELECT * FROM orders WHERE items <= :most",
    "parameters": {"most": 8},
    "key": ["id"],  # what puts the rows in order, and where a broken read goes on
}
run = train(
    {
        "name": "orders",
        "data": {"source": source, "target": "paid", "exclude": ["id"]},
        "model": {"net": "mlp"},  # quicker than the ensemble that a table gets by itself
        "train": {"epochs": 30},
    }
)
with load(package(run)) as model:
    print(model.predict_rows([{"country": "DE", "ordered": "2026-05-01", "items": 3}]))
