"""One customer: a phone, its MEC server, its wallet."""
