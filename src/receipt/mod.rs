//! Receipts: what was checked of a model, when, and of which files.
