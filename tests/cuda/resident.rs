//! Files whose tensors are scattered over two devices, and seals over their memory.

use tensorseal::device::Backend;
use tensorseal::device::cuda::{Buffer, Cuda};
use tensorseal::layout::Layout;
use tensorseal::resident::OnDevice;
use tensorseal::seal::{Budget, Finding, Region, Seal, SealOptions};
use tensorseal::tree::GroupSize;
use tensorseal::{Error, VerifyError};

use super::common::resident::{Model, Scattered};
use super::order::Other;
use super::{here, parent, pattern, upload, write};

const TWO: [&[(&str, &str)]; 2] = [
    &[("FAKECUDA_DEVICES", "9.0,9.0"), ("FAKECUDA_STREAMS", "lazy")],
    &[("FAKECUDA_DEVICES", "9.0,9.0"), ("FAKECUDA_STREAMS", "eager")],
];

fn both() -> Vec<Cuda> {
    [0, 1].map(|ordinal| Cuda::open(ordinal).unwrap()).into()
}

#[test]
fn tensors_scattered_over_two_devices_are_the_signed_file() {
    if parent(here!("tensors_scattered_over_two_devices_are_the_signed_file"), &TWO) {
        return;
    }
    for (count, most, seed) in [(60, 2000, 1), (200, 40, 2), (7, 90_000, 3)] {
        let model = Model::new(count, most, seed);
        Scattered::new(&model, both(), seed).prove();
    }
}

#[test]
fn what_is_downloaded_is_behind_the_callers_stream() {
    if parent(here!("what_is_downloaded_is_behind_the_callers_stream"), &TWO) {
        return;
    }
    // No tensor has a chunk of its own, so that all of the first device is downloaded.
    let model = Model::new(200, 40, 5);
    let scattered = Scattered::new(&model, both(), 5);
    let other = Other::new();
    let buffer = &scattered.buffers[0];
    let bytes = scattered.backends[0].download(buffer, 0..tensorseal::layout::Buffer::size(buffer)).unwrap();
    // What is in the memory is wrong until the stream has run.
    other.copy(&vec![0; bytes.len()], buffer.address());
    other.synchronize();
    assert!(scattered.verify(&[]).is_err());
    other.copy(&bytes, buffer.address());
    scattered.verify(&[Some(&other.as_stream())]).unwrap();
}

fn regions<'a>(buffers: &'a [(usize, Buffer)], names: &'a [String]) -> Vec<Region<'a, Buffer>> {
    let region = |((device, buffer), name): (&'a (usize, Buffer), &'a String)| Region {
        name,
        device: *device,
        layout: Layout::whole(buffer).unwrap(),
    };
    buffers.iter().zip(names).map(region).collect()
}

#[test]
fn a_write_between_two_looks_breaks_the_seal() {
    if parent(here!("a_write_between_two_looks_breaks_the_seal"), &TWO) {
        return;
    }
    let cudas = both();
    let devices: Vec<_> = cudas.iter().map(OnDevice::idle).collect();
    let mut buffers: Vec<(usize, Buffer)> = [(0, 50_000), (1, 20_001), (0, 700)]
        .map(|(device, len)| (device, upload(&cudas[device], &pattern(len, 3))))
        .into();
    let names: Vec<String> = ["kv", "q", "scale"].map(str::to_owned).into();
    let options = || SealOptions { group: GroupSize::at_most(4096), ..SealOptions::default() };
    let mut seal = Seal::take(&devices, &regions(&buffers, &names), options()).unwrap();
    assert_eq!(seal.reverify(&devices, &regions(&buffers, &names), Budget::All).unwrap().bytes, 70_701);
    let metrics = tensorseal::seal::exposition([&seal]);
    assert!(metrics.contains("tensorseal_seal_covered_bytes{seal=\"weights\",device=\"cuda:1\"} 20001\n"), "{metrics}");

    write(&cudas[1], &[1, 2, 3], &mut buffers[1].1, 8190);
    let error = seal.reverify(&devices, &regions(&buffers, &names), Budget::All).unwrap_err();
    let Some(VerifyError::Seal(broken)) = error.refusal() else { panic!("{error}") };
    assert_eq!(
        broken.findings,
        [Finding::Changed { name: "q".to_owned(), at: std::iter::once(4096..12_288).collect() }]
    );

    // The same bytes in other memory are other memory.
    let mut seal = Seal::take(&devices, &regions(&buffers, &names), options()).unwrap();
    let kept = std::mem::replace(&mut buffers[0].1, upload(&cudas[0], &pattern(50_000, 3)));
    let error = seal.reverify(&devices, &regions(&buffers, &names), Budget::Bytes(1)).unwrap_err();
    let Some(VerifyError::Seal(broken)) = error.refusal() else { panic!("{error}") };
    assert_eq!(broken.findings, [Finding::Moved { name: "kv".to_owned(), what: "place" }]);
    drop(kept);
}

#[test]
fn a_launch_that_did_nothing_confirms_nothing() {
    // Which launch is the first of `reverify` depends on the known-answer test: some are tried, and one of them is it.
    let envs: Vec<Vec<(&str, String)>> =
        (1..40).map(|launch| vec![("FAKECUDA_SKIP", launch.to_string()), ("SEAL_SKIPS", String::new())]).collect();
    let test = here!("a_launch_that_did_nothing_confirms_nothing");
    if !super::is_child(test) {
        let mut seen = 0;
        for env in &envs {
            let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let run = super::must_pass(test, &env);
            seen += usize::from(run.stdout.contains("no answer, and nothing confirmed"));
            if seen > 0 {
                return;
            }
        }
        panic!("no launch of a second look was left out");
    }
    // Left out while the device is opened or while the seal is taken: both fail, which others test.
    let Ok(cuda) = Cuda::open(0) else { return };
    let buffers = [(0, upload(&cuda, &pattern(50_000, 3)))];
    let (names, devices) = (["w".to_owned()], [OnDevice::idle(&cuda)]);
    let Ok(mut seal) = Seal::take(&devices, &regions(&buffers, &names), SealOptions::default()) else { return };
    std::thread::sleep(std::time::Duration::from_millis(2));
    let before = seal.oldest();
    match seal.reverify(&devices, &regions(&buffers, &names), Budget::All) {
        Ok(_) => {}
        Err(Error::Device(_)) => {
            assert!(seal.broken().is_none() && seal.oldest() >= before, "it is not broken, and grows old");
            println!("no answer, and nothing confirmed");
        }
        Err(other) => panic!("{other}"),
    }
}
