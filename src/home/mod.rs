//! L1: the folder of one agent.
