"""One command under several measuring methods, beside a program whose memory is known."""
