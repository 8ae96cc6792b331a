//! Memory that is measured when it is taken into use, and compared with itself later.
