//! From files to memory of a device, in which they stay locked until they are found to be what was signed.
