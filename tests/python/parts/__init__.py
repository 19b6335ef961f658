"""The parts that tests are made of: relays, homes, peers, and the processes behind them."""
