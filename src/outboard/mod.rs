//! Trees kept beside a model, which say where in it a difference lies.
