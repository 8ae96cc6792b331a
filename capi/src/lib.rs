//! Tensorseal for programs in C: see `include/tensorseal.h`.
