//! L2: the human owner.
