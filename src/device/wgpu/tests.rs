use super::*;
#[test]
fn smoke() {
    let t = std::time::Instant::now();
    let w = Wgpu::open(Some("llvmpipe")).unwrap();
    eprintln!("{:?} {:?} {:?}", t.elapsed(), w.kind(), w.limits);
    eprintln!("{:#?}", Wgpu::list());
}
