//! The name under which programs look for the library: the number is that of the interface (`TENSORSEAL_ABI`).

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libtensorseal_c.so.1");
    println!("cargo:rerun-if-changed=build.rs");
}
