//! L4: the background service.
