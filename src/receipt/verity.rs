//! The table of a dm-verity device: which root its blocks are checked against.

use serde::{Deserialize, Serialize};

use super::kernel::DM_HEAD;

/// What a dm-verity device holds: with the same values, the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DmVerity {
    pub(crate) version: u8,
    /// As the kernel names it: `sha256`.
    pub(crate) algorithm: String,
    /// The root hash, in hexadecimal.
    pub(crate) root: String,
    /// In hexadecimal, or `-`.
    pub(crate) salt: String,
    pub(crate) data_blocks: u64,
    pub(crate) data_block_size: u64,
    pub(crate) hash_block_size: u64,
}

/// Why a device of the device mapper is none whose blocks are all checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TableFault {
    /// Not what the kernel's header describes.
    #[error("the table of its device-mapper device cannot be understood")]
    Answer,
    /// More or fewer than one piece.
    #[error("its device-mapper device consists of {0} pieces, not of one")]
    Targets(u32),
    /// Another kind.
    #[error("its device-mapper device is {0:?}, not verity")]
    Kind(String),
    /// An algorithm whose collisions are known, or that this program does not know.
    #[error("its dm-verity hash is {0:?}, not sha256 or sha512")]
    Algorithm(String),
    /// An option that lets blocks pass.
    #[error("its dm-verity option {0:?} lets blocks pass that were not checked, or is not known here")]
    Option(String),
}

impl DmVerity {
    /// Reads the answer to `DM_TABLE_STATUS` (`linux/dm-ioctl.h`): `struct dm_ioctl`, then a `struct dm_target_spec` for
    /// each target with its line behind it.
    pub(crate) fn of_answer(answer: &[u8]) -> Result<Self, TableFault> {
        /// `DM_BUFFER_FULL_FLAG`: the answer was too long and is not whole.
        const TRUNCATED: u32 = 1 << 8;
        /// Length of `struct dm_target_spec`: start and length (u64), status and next (32 bits), a name of 16 bytes.
        const SPEC: usize = 40;
        let number = |at: usize| -> Option<u32> { Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?)) };
        let (size, start, targets, flags) = (number(12).zip(number(16)).zip(number(20)).zip(number(28)))
            .map(|(((a, b), c), d)| (a, b, c, d))
            .ok_or(TableFault::Answer)?;
        if flags & TRUNCATED != 0 || (start as usize) < DM_HEAD {
            return Err(TableFault::Answer);
        }
        if targets != 1 {
            return Err(TableFault::Targets(targets));
        }
        let all = answer.get(start as usize..size as usize).ok_or(TableFault::Answer)?;
        let (spec, line) = all.split_at_checked(SPEC).ok_or(TableFault::Answer)?;
        let text = |bytes: &[u8]| -> Option<String> {
            let end = bytes.iter().position(|&byte| byte == 0)?;
            String::from_utf8(bytes[..end].to_vec()).ok()
        };
        let kind = text(&spec[24..]).ok_or(TableFault::Answer)?;
        if kind != "verity" {
            return Err(TableFault::Kind(kind));
        }
        let sectors = u64::from_ne_bytes(spec[8..16].try_into().map_err(|_| TableFault::Answer)?);
        let begins = u64::from_ne_bytes(spec[..8].try_into().map_err(|_| TableFault::Answer)?);
        let of = Self::of_line(&text(line).ok_or(TableFault::Answer)?)?;
        let bytes = of.data_blocks.checked_mul(of.data_block_size);
        // The one target has to be the whole device.
        if begins != 0 || bytes.is_none() || bytes != sectors.checked_mul(512) {
            return Err(TableFault::Answer);
        }
        Ok(of)
    }

    /// Reads a target's line (Documentation/admin-guide/device-mapper/verity.rst): `version data-device hash-device
    /// data-block-size hash-block-size data-blocks hash-start algorithm root salt [count options..]`.
    fn of_line(line: &str) -> Result<Self, TableFault> {
        let mut words = line.split_ascii_whitespace();
        let mut next = || words.next().ok_or(TableFault::Answer);
        let number = |word: &str| word.parse().map_err(|_| TableFault::Answer);
        let version = next()?.parse().map_err(|_| TableFault::Answer)?;
        let (_data, _hashes) = (next()?, next()?);
        let (data_block_size, hash_block_size, data_blocks) = (number(next()?)?, number(next()?)?, number(next()?)?);
        let _hash_start: u64 = number(next()?)?;
        let (algorithm, root, salt) = (next()?.to_owned(), next()?.to_lowercase(), next()?.to_lowercase());
        // The kernel may name an implementation: `sha256-avx2`.
        let digits = match algorithm.split('-').next() {
            Some("sha256") => 64,
            Some("sha512") => 128,
            _ => return Err(TableFault::Algorithm(algorithm)),
        };
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if root.len() != digits || !is_hex(&root) || !(salt == "-" || is_hex(&salt)) {
            return Err(TableFault::Answer);
        }
        let algorithm = if digits == 64 { "sha256" } else { "sha512" }.to_owned();
        let options: Vec<&str> = words.collect();
        check_options(&options)?;
        Ok(Self { version, algorithm, root, salt, data_blocks, data_block_size, hash_block_size })
    }
}

/// A word that is not known may let anything pass.
fn check_options(options: &[&str]) -> Result<(), TableFault> {
    let Some((count, options)) = options.split_first() else { return Ok(()) };
    if count.parse() != Ok(options.len()) {
        return Err(TableFault::Answer);
    }
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match *option {
            // What to do when a block is wrong; how to compute; blocks of zeros, which read as zeros.
            "restart_on_corruption"
            | "panic_on_corruption"
            | "restart_on_error"
            | "panic_on_error"
            | "try_verify_in_tasklet"
            | "ignore_zero_blocks" => {}
            // Blocks are repaired, and checked afterwards. Each has a value.
            "use_fec_from_device" | "fec_roots" | "fec_blocks" | "fec_start" | "root_hash_sig_key_desc" => {
                options.next();
            }
            // `ignore_corruption`, and `check_at_most_once`: who changes the disk later is not noticed.
            other => return Err(TableFault::Option(other.to_owned())),
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const ROOT: &str = "4392712ba01368efdf14b05c76f9e4df0d53664630b5d48632ed17a137f39076";
    const SALT: &str = "1234000000000000000000000000000000000000000000000000000000000000";

    /// The example of the kernel's documentation, with another count of blocks.
    pub(in crate::receipt) fn line(more: &str) -> String {
        format!("1 254:1 254:2 4096 4096 262144 1 sha256 {ROOT} {SALT}{more}")
    }

    /// An answer as `struct dm_ioctl` and `struct dm_target_spec` lay it out: offsets as gcc gives them for the header.
    pub(in crate::receipt) fn answer(kind: &str, line: &str, sectors: u64) -> Vec<u8> {
        let mut out = vec![0; 16 << 10];
        let end = 312 + 40 + line.len() + 1;
        for (at, value) in [(0, 4), (12, end.next_multiple_of(8) as u32), (16, 312), (20, 1), (28, 1 | 1 << 4 | 1 << 5)]
        {
            out[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        out[320..328].copy_from_slice(&sectors.to_ne_bytes());
        out[336..336 + kind.len()].copy_from_slice(kind.as_bytes());
        out[352..352 + line.len()].copy_from_slice(line.as_bytes());
        out
    }

    const SECTORS: u64 = 262_144 * 8;

    #[test]
    fn the_root_of_a_device_is_read() {
        let expected = DmVerity {
            version: 1,
            algorithm: "sha256".into(),
            root: ROOT.into(),
            salt: SALT.into(),
            data_blocks: 262_144,
            data_block_size: 4096,
            hash_block_size: 4096,
        };
        assert_eq!(DmVerity::of_answer(&answer("verity", &line(""), SECTORS)), Ok(expected.clone()));
        for more in [" 1 panic_on_corruption", " 3 ignore_zero_blocks use_fec_from_device 254:3", " 0"] {
            assert_eq!(DmVerity::of_line(&line(more)), Ok(expected.clone()), "{more}");
        }
        let other = line("").replace("sha256", "sha256-avx2");
        assert_eq!(DmVerity::of_line(&other), Ok(expected));
    }

    #[test]
    fn what_does_not_check_every_block_is_no_dm_verity() {
        for more in [" 1 ignore_corruption", " 1 check_at_most_once", " 2 panic_on_corruption new_option"] {
            assert!(matches!(DmVerity::of_line(&line(more)), Err(TableFault::Option(_))), "{more}");
        }
        for more in [" 2 panic_on_corruption", " x", " panic_on_corruption", " 0 panic_on_corruption"] {
            assert_eq!(DmVerity::of_line(&line(more)), Err(TableFault::Answer), "{more}");
        }
        let linear = DmVerity::of_answer(&answer("linear", "254:1 0", SECTORS));
        assert_eq!(linear, Err(TableFault::Kind("linear".into())));
        let sha1 = line("").replace("sha256", "sha1");
        assert_eq!(DmVerity::of_line(&sha1), Err(TableFault::Algorithm("sha1".into())));
        let part = DmVerity::of_answer(&answer("verity", &line(""), SECTORS + 8));
        assert_eq!(part, Err(TableFault::Answer), "a device that is longer than what is checked");
    }

    #[test]
    fn an_answer_that_is_cut_anywhere_is_none() {
        let whole = answer("verity", &line(""), SECTORS);
        for len in 0..312 + 40 + line("").len() {
            assert!(DmVerity::of_answer(&whole[..len]).is_err(), "{len} bytes");
        }
        let mut two = whole.clone();
        two[20] = 2;
        assert_eq!(DmVerity::of_answer(&two), Err(TableFault::Targets(2)));
        let mut cut = whole.clone();
        cut[29] = 1;
        assert_eq!(DmVerity::of_answer(&cut), Err(TableFault::Answer), "DM_BUFFER_FULL_FLAG");
        let mut inside = whole;
        inside[16..20].copy_from_slice(&8_u32.to_ne_bytes());
        assert!(DmVerity::of_answer(&inside).is_err(), "an answer that begins in its own head");
    }
}
