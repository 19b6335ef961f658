//! L3: the socket.
