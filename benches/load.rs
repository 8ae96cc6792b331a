//! How long it takes until a model's files of tensors are in memory: read alone, or read and verified.
//!
//! `cargo bench --bench load -- MODEL [--pread | --unverified | --verified] [options]`, where MODEL is a folder:
//!
//! - `--pread`: a plain parallel `pread` into fresh memory of the host, by which the others are measured;
//! - `--unverified`: the loader without digests, which hands nothing out;
//! - `--verified`: the loader; a bundle is made first, outside of the time. `--sha256` leaves BLAKE3 out of it. With
//!   `--signature FILE --public-key FILE` it is one that was made before, so that nothing reads the files before the load;
//! - `--device DEVICE`: `cpu` (the default), `wgpu:NAME`, `cuda:N`; `--huge`: huge pages; `--threads N`;
//! - `--direct`: reads go past the page cache, also those of `--pread`; `--uring`: through io_uring;
//! - `--cold`: the files leave the page cache before each round; `--rounds N`; `--json`.
//!
//! Memory is freed outside of the time. Beside seconds it tells how much resident memory there was at the peak beyond the
//! buffers that were asked for, and with `--json` the BLAKE3 digest of each file as it lay in the memory that was handed out.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::Instant;

use tensorseal::device::cpu::{Cpu, Memory, Settings, Silent};
use tensorseal::device::{Backend, Device, DeviceKind, Pages};
use tensorseal::format::Format;
use tensorseal::key::{Curve, PrivateKey, PublicKey};
use tensorseal::layout::Buffer;
use tensorseal::loader::{LoadOptions, ReadMode, load_locked, load_verified};
use tensorseal::sign::{Annotations, KeySigner};
use tensorseal::verify::KeyVerifier;
use tensorseal::{Algorithm, Bundle, SignOptions, sign};

type Outcome<T> = Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: cargo bench --bench load -- MODEL [--pread | --unverified | --verified [--sha256 | --signature FILE --public-key FILE]] \
    [--device cpu|wgpu:NAME|cuda:N] [--huge] [--threads N] [--direct | --uring] [--cold] [--rounds N] [--json]";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Pread,
    Unverified,
    Verified,
}

#[derive(Debug)]
struct Asked {
    model: PathBuf,
    case: Case,
    sha256: bool,
    signature: Option<PathBuf>,
    public_key: Option<PathBuf>,
    device: DeviceKind,
    options: LoadOptions,
    cold: bool,
    rounds: usize,
    json: bool,
}

fn main() -> ExitCode {
    match asked().and_then(|asked| run(&asked)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn asked() -> Outcome<Asked> {
    // Cargo adds `--bench`.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (device, options) = (DeviceKind::Cpu, LoadOptions::default());
    let (model, case) = (PathBuf::new(), Case::Verified);
    let mut asked = Asked {
        model,
        case,
        sha256: false,
        signature: None,
        public_key: None,
        device,
        options,
        cold: false,
        rounds: 3,
        json: false,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n{USAGE}"));
        match arg.as_str() {
            "--pread" => asked.case = Case::Pread,
            "--unverified" => asked.case = Case::Unverified,
            "--verified" => asked.case = Case::Verified,
            "--sha256" => asked.sha256 = true,
            "--signature" => asked.signature = Some(value()?.into()),
            "--public-key" => asked.public_key = Some(value()?.into()),
            "--device" => asked.device = value()?.parse()?,
            "--huge" => asked.options.pages = Pages::Huge,
            "--threads" => asked.options.threads = NonZeroUsize::new(value()?.parse()?),
            "--direct" => asked.options.read = ReadMode::Direct,
            "--uring" => asked.options.read = ReadMode::Uring,
            "--cold" => asked.cold = true,
            "--rounds" => asked.rounds = value()?.parse()?,
            "--json" => asked.json = true,
            _ if arg.starts_with('-') => return Err(format!("{arg} is unknown\n{USAGE}").into()),
            _ => asked.model = arg.into(),
        }
    }
    let half_given = asked.signature.is_some() != asked.public_key.is_some();
    if asked.model.as_os_str().is_empty() || asked.rounds == 0 || half_given {
        return Err(USAGE.into());
    }
    Ok(asked)
}

fn run(asked: &Asked) -> Outcome<()> {
    let cpu = Cpu::open(Settings { threads: asked.options.threads, ..Settings::default() })?;
    let bench = Bench::new(asked, cpu)?;
    let mut rounds = Vec::new();
    for _ in 0..asked.rounds {
        if asked.cold {
            bench.forget()?;
        }
        // The peak so far is of no interest.
        let _ = fs::write("/proc/self/clear_refs", "5");
        rounds.push(match Device::open(asked.device.clone())? {
            Device::Cpu(_) => bench.round(&cpu)?,
            #[cfg(feature = "wgpu")]
            Device::Wgpu(wgpu) => bench.round(&wgpu)?,
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => bench.round(&cuda)?,
            _ => return Err("this device is not one to load to".into()),
        });
    }
    bench.tell(&rounds);
    Ok(())
}

/// What a round took.
struct Round {
    seconds: f64,
    /// Of all threads, in steps of 10 ms: it says more where a machine is busy with other things.
    cpu: f64,
    /// Resident bytes at the peak, beyond those of the buffers.
    beyond: i64,
    /// Resident bytes at the peak, less those that were resident before.
    peak: i64,
    /// Names of files, and their digests in the memory that was handed out.
    digests: Vec<(String, String)>,
}

/// The processor's time that this process has used.
fn cpu_seconds() -> Outcome<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may hold anything: utime and stime are the 12th and 13th, in hundredths of a second.
    let (_, fields) = stat.rsplit_once(')').ok_or("no stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(ticks.sum::<Result<u64, _>>()? as f64 / 100.0)
}

/// A line of the kernel's account of this process's memory, in bytes.
fn memory(line: &str) -> Outcome<i64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let found = status.lines().find_map(|text| text.strip_prefix(line)).ok_or_else(|| format!("no {line}"))?;
    let kilobytes: i64 = found.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}

struct Bench<'a> {
    asked: &'a Asked,
    cpu: Cpu,
    files: Vec<PathBuf>,
    bytes: u64,
    /// Where the signature is, and whose it is.
    _folder: tempfile::TempDir,
    signature: PathBuf,
    trusted: KeyVerifier,
}

impl<'a> Bench<'a> {
    fn new(asked: &'a Asked, cpu: Cpu) -> Outcome<Self> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&asked.model)? {
            let path = entry?.path();
            if path.to_str().is_some_and(|name| Format::of_name(name).is_some()) {
                files.push(path);
            }
        }
        files.sort();
        let lengths = files.iter().map(|path| Ok(fs::metadata(path)?.len()));
        let bytes = lengths.sum::<Outcome<u64>>()?;
        let folder = tempfile::tempdir()?;
        if let (Some(signature), Some(public)) = (&asked.signature, &asked.public_key) {
            let trusted = KeyVerifier::new(PublicKey::from_pem(&fs::read(public)?)?);
            return Ok(Self { asked, cpu, files, bytes, _folder: folder, signature: signature.clone(), trusted });
        }
        let key = PrivateKey::generate(Curve::P256)?;
        let (signature, trusted) = (folder.path().join("model.sig"), KeyVerifier::new(key.public_key()));
        if asked.case == Case::Verified {
            let annotations = if asked.sha256 { Annotations::None } else { Annotations::Blake3 };
            let options = SignOptions { annotations, ..SignOptions::default() };
            sign(&asked.model, &signature, &KeySigner::new(key), &options, &Device::Cpu(cpu), &Silent)?
                .write(&signature)?;
        }
        Ok(Self { asked, cpu, files, bytes, _folder: folder, signature, trusted })
    }

    fn round<B: Backend>(&self, backend: &B) -> Outcome<Round> {
        let Asked { model, options, case, .. } = self.asked;
        let before = memory("VmRSS:")?;
        let (begun, worked) = (Instant::now(), cpu_seconds()?);
        let (seconds, cpu, allocated) = match case {
            Case::Pread => {
                let memory = self.pread()?;
                (begun.elapsed(), cpu_seconds()?, memory.iter().map(Buffer::size).sum::<u64>())
            }
            Case::Unverified => {
                let loaded = load_locked(model, None, options, backend, &Silent)?;
                (begun.elapsed(), cpu_seconds()?, loaded.iter().map(|(_, loaded)| loaded.len()).sum())
            }
            Case::Verified => {
                let loaded = load_verified(model, &self.signature, &self.trusted, options, backend, &Silent)?;
                let (seconds, cpu) = (begun.elapsed(), cpu_seconds()? - worked);
                let peak = memory("VmHWM:")?;
                let beyond = peak - i64::try_from(loaded.report().device_bytes)?;
                let mut digests = Vec::new();
                // What was timed was the work: the memory is what another implementation finds signed.
                let manifest = Bundle::read(&self.signature, 1 << 30)?.verify(&self.trusted)?;
                for (name, _, buffer) in loaded.tensor_files() {
                    let mut hasher = blake3::Hasher::new();
                    for at in (0..buffer.size()).step_by(64 << 20) {
                        hasher.update(&backend.download(buffer, at..buffer.size().min(at + (64 << 20)))?);
                    }
                    let digest = hasher.finalize().to_hex().to_string();
                    let resource = manifest.get(name).ok_or("a file that was not signed")?;
                    let signed = resource.digest_by(Algorithm::Blake3).map(|digest| digest.to_hex());
                    if signed.is_some_and(|signed| signed != digest) {
                        return Err(format!("{name} was handed out and is not what was signed").into());
                    }
                    digests.push((name.to_string(), digest));
                }
                return Ok(Round { seconds: seconds.as_secs_f64(), cpu, beyond, peak: peak - before, digests });
            }
        };
        let peak = memory("VmHWM:")?;
        let (beyond, digests) = (peak - i64::try_from(allocated)?, Vec::new());
        Ok(Round { seconds: seconds.as_secs_f64(), cpu: cpu - worked, beyond, peak: peak - before, digests })
    }

    /// The plainest way: threads take 4 MiB after 4 MiB, and read.
    fn pread(&self) -> Outcome<Vec<Memory>> {
        let direct = self.asked.options.read == ReadMode::Direct;
        let open = |path| File::options().read(true).custom_flags(if direct { libc::O_DIRECT } else { 0 }).open(path);
        let files = self.files.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        // Direct reads are of whole blocks, the last of which goes beyond the end of the file.
        let block = if direct { 4096 } else { 1 };
        let len = |file: &File| Ok::<_, std::io::Error>(file.metadata()?.len().next_multiple_of(block));
        let alloc = |file: &File| Ok(self.cpu.alloc_on(len(file)?, self.asked.options.pages)?);
        let mut memory = files.iter().map(alloc).collect::<Outcome<Vec<_>>>()?;
        let places = memory.iter_mut().zip(&files).flat_map(|(memory, file)| {
            let bytes = self.cpu.on_host(memory).unwrap_or_default();
            bytes.chunks_mut(4 << 20).enumerate().map(move |(index, slab)| (file, slab, (index as u64) << 22))
        });
        let places = Mutex::new(places);
        let read = || -> std::io::Result<()> {
            loop {
                let next = places.lock().ok().and_then(|mut places| places.next());
                let Some((file, slab, at)) = next else { return Ok(()) };
                match file.read_exact_at(slab, at) {
                    Err(error) if direct && error.kind() == std::io::ErrorKind::UnexpectedEof => {}
                    done => done?,
                }
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..self.cpu.threads()).map(|_| scope.spawn(read)).collect();
            let mine = read();
            others.into_iter().try_for_each(|other| other.join().unwrap_or(Ok(()))).and(mine)
        })?;
        Ok(memory)
    }

    /// Makes the files leave the page cache, as far as the system can be asked to.
    fn forget(&self) -> Outcome<()> {
        for path in &self.files {
            let mut from = std::ffi::OsString::from("if=");
            from.push(path);
            let done = Command::new("dd").arg(from).args(["iflag=nocache", "count=0", "status=none"]).status()?;
            if !done.success() {
                return Err("dd could not drop a file from the page cache".into());
            }
        }
        Ok(())
    }

    fn tell(&self, rounds: &[Round]) {
        let mut seconds: Vec<f64> = rounds.iter().map(|round| round.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let (least, median) = (seconds[0], seconds[seconds.len() / 2]);
        let cpu = rounds.iter().map(|round| round.cpu).fold(f64::INFINITY, f64::min);
        let beyond = rounds.iter().map(|round| round.beyond).max().unwrap_or_default();
        let peak = rounds.iter().map(|round| round.peak).max().unwrap_or_default();
        let case = format!("{:?}", self.asked.case).to_lowercase();
        if self.asked.json {
            let told = serde_json::json!({
                "case": case, "device": self.asked.device.to_string(), "bytes": self.bytes, "rounds": seconds,
                "seconds": median, "least": least, "cpu": cpu, "beyond_buffers": beyond, "peak": peak,
                "digests": rounds.last().map(|round| round.digests.iter().cloned().collect::<BTreeMap<_, _>>()),
            });
            println!("{told}");
            return;
        }
        let rate = self.bytes as f64 / median / 1e9;
        println!(
            "{case} of {} bytes to {}: {median:.3} s (least {least:.3} of {}), {cpu:.2} s of processors, {rate:.2} GB/s, {:.1} MiB resident beyond the buffers",
            self.bytes,
            self.asked.device,
            seconds.len(),
            beyond as f64 / (1 << 20) as f64,
        );
    }
}
