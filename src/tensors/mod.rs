//! The tensor manifest: digests of tensors and of tiles of them, so that whoever holds a slice can check it.
