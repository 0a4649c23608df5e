"""What `make bench` measures.  Numbers are reported, never asserted: a machine has its share in them."""
