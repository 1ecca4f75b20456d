"""Networks in few bits: shared weights, sparse indices, Huffman codes, and the one file that holds them."""
