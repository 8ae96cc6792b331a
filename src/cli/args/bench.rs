//! Options of `bench`.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::Args;
use tensorseal::bench::What;

use super::{FILES, OUTPUT, size, threads};

const MEASURED: &str = "What is measured";
const EARLIER: &str = "Earlier reports";

#[derive(Args)]
#[command(
    after_help = "Examples:\n  tensorseal bench\n  tensorseal bench --device cuda:0 --work /models --json > gpu.json\n  tensorseal bench --from gpu.json --html gpu.html\n  tensorseal bench --compare before.json after.json --fail-on-slower\n\nWhat each line means, and the form of the JSON: docs/bench.md"
)]
#[command(group(clap::ArgGroup::new("measuring").multiple(true)))]
pub(in crate::cli) struct BenchArgs {
    /// A device: cpu, wgpu, wgpu:NAME (also a software adapter), cuda or cuda:N; repeat for more [default: all that can be
    /// used, but software]
    #[arg(long, value_name = "DEVICE", group = "measuring", help_heading = MEASURED)]
    pub(in crate::cli) device: Vec<String>,
    /// Measure this alone: size, alignment, rows, small, kernel, model, upload, digest, load, verified-load, sign or verify;
    /// repeat for more
    #[arg(long, value_name = "WHAT", value_parser = what, group = "measuring", help_heading = MEASURED)]
    pub(in crate::cli) only: Vec<What>,
    /// Memory of a device to measure in at most [default: a quarter of what is free, up to 16GiB; for the CPU up to 512MiB a
    /// thread and 4GiB; 1GiB if not known]
    #[arg(long, value_name = "SIZE", value_parser = size, group = "measuring", help_heading = MEASURED)]
    pub(in crate::cli) size: Option<NonZeroU64>,
    /// Count so many repeats of each, and more of what is quick; comparing takes 5 or more [default: 9]
    #[arg(long, value_name = "N", group = "measuring", help_heading = MEASURED)]
    pub(in crate::cli) repeats: Option<NonZeroUsize>,
    /// Worker threads of the CPU [default: all processors]
    #[arg(long, value_name = "N", value_parser = threads, group = "measuring", help_heading = MEASURED)]
    pub(in crate::cli) threads: Option<NonZeroUsize>,
    /// Some seconds instead of about a minute: 32MiB of memory and of files, 5 repeats
    #[arg(long, group = "measuring", help_heading = MEASURED)]
    pub(in crate::cli) quick: bool,
    /// The size of the model that is written to disk, and removed [default: 512MiB]
    #[arg(long, value_name = "SIZE", value_parser = size, group = "measuring", help_heading = FILES)]
    pub(in crate::cli) file_size: Option<NonZeroU64>,
    /// The folder to write it in: on the disk that models are loaded from [default: that of temporary files]
    #[arg(long, value_name = "DIR", group = "measuring", help_heading = FILES)]
    pub(in crate::cli) work: Option<PathBuf>,
    /// Write no files: nothing is read, loaded, signed or verified
    #[arg(long, group = "measuring", help_heading = FILES)]
    pub(in crate::cli) no_files: bool,
    /// Run no other programs beside ours (b3sum, sha256sum, openssl, Python's model_signing)
    #[arg(long, group = "measuring", help_heading = FILES)]
    pub(in crate::cli) no_peers: bool,
    /// What checking adds to a load that takes so long [default: the measured load, or else an assumed rate]
    #[arg(long, value_name = "SECONDS", value_parser = positive, conflicts_with = "compare", help_heading = OUTPUT)]
    pub(in crate::cli) load_seconds: Option<f64>,
    /// Show the report in this file, as --json printed it, and measure nothing
    #[arg(long, value_name = "REPORT", conflicts_with = "measuring", help_heading = EARLIER)]
    pub(in crate::cli) from: Option<PathBuf>,
    /// Say what moved between two reports beyond their noise, and measure nothing
    #[arg(
        long,
        value_names = ["BEFORE", "AFTER"],
        num_args = 2,
        conflicts_with_all = ["measuring", "from", "html"],
        help_heading = EARLIER
    )]
    pub(in crate::cli) compare: Option<Vec<PathBuf>>,
    /// Exit with 1 if something got slower
    // clap asks for no option that another one excludes.
    #[arg(long, requires = "compare", conflicts_with_all = ["measuring", "from"], help_heading = EARLIER)]
    pub(in crate::cli) fail_on_slower: bool,
    /// Also write a page with pictures: one file, which loads nothing from anywhere
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(in crate::cli) html: Option<PathBuf>,
    /// Print a report in JSON instead
    #[arg(long, help_heading = OUTPUT)]
    pub(in crate::cli) json: bool,
}

fn what(text: &str) -> Result<What, String> {
    text.parse()
}

/// A time that a load may take: a minute, or half a second.
fn positive(text: &str) -> Result<f64, &'static str> {
    let seconds = text.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds > 0.0);
    seconds.ok_or("write a number of seconds, such as 30 or 0.5")
}
