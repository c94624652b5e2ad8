"""What is known of the GPU family's kernels without a GPU: compilers' reports, a simulator's, and the limits of chips."""
