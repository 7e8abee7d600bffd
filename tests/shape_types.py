"""The checker of shapes and types that the tests put on every annotated function of softscribe."""

from beartype import BeartypeConf, beartype

# As for type checkers, an int will do where a float is annotated (PEP 484).
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
