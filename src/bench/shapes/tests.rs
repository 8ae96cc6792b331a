use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::format::{Format, Header};

fn by_type(shaped: &Shaped) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for tensor in &shaped.tensors {
        *counts.entry(tensor.dtype.name()).or_default() += tensor.elements();
    }
    counts
}

/// As the Hub's API gives them (`safetensors.parameters`), with `total_size` and the entries of each
/// `model.safetensors.index.json`.
#[test]
fn every_family_has_the_published_number_of_tensors_parameters_and_bytes() {
    for (family, tensors, bytes, types) in [
        // Unsloth and PEFT print 41,943,040 trainable parameters for this rank and these modules.
        (Family::Lora, 448, 167_772_160, vec![("F32", 41_943_040)]),
        (Family::Qwen25With7B, 339, 15_231_233_024, vec![("BF16", 7_615_616_512)]),
        (Family::Llama31With8B, 291, 16_060_522_496, vec![("BF16", 8_030_261_248)]),
        (Family::Llama31With70B, 723, 141_107_412_992, vec![("BF16", 70_553_706_496)]),
        (
            Family::DeepSeekV3,
            91_991,
            688_574_839_360,
            vec![("BF16", 3_918_786_560), ("F32", 41_555_600), ("F8_E4M3", 680_571_043_840)],
        ),
    ] {
        let whole = family.whole();
        assert_eq!((whole.tensors.len(), whole.bytes()), (tensors, bytes), "{family:?}");
        assert_eq!(by_type(&whole).into_iter().collect::<Vec<_>>(), types, "{family:?}");
        assert_eq!(whole.name(), family.name());
    }
    // Its publisher's 163 files have 688,586,727,753 bytes, headers and all; ours is one file, with one header.
    let more = 688_586_727_753_i64 - Family::DeepSeekV3.whole().file_bytes() as i64;
    assert!(more.abs() < 200_000, "{more}");
}

#[test]
fn what_does_not_fit_has_fewer_layers_then_fewer_experts_and_never_another_tensor() {
    for family in Family::ALL {
        let real: BTreeSet<_> = family.whole().tensors.into_iter().map(|tensor| tensor.shape).collect();
        for shift in [20, 27, 29, 31, 32, 33] {
            let most = 3_u64 << shift;
            let Some(scaled) = family.scaled(most) else { continue };
            assert!(scaled.file_bytes() <= most, "{}", scaled.name());
            for tensor in &scaled.tensors {
                // A gate has a row an expert: it is smaller with fewer.
                assert!(tensor.name.contains(".mlp.gate.") || real.contains(&tensor.shape), "{}", tensor.name);
            }
            let more = Shaped { layers: scaled.layers + 1, ..scaled.clone() };
            if scaled.layers < family.plan().layers && scaled.experts == family.whole().experts {
                assert!(family.shaped(more.layers, more.experts, 1).file_bytes() > most, "{}", scaled.name());
            }
        }
    }
    let name = |family: Family, most: u64| family.scaled(most).map(|scaled| scaled.name());
    // By hand: the ends have 2,101,354,496 bytes and a layer 436,224,000, and the header some.
    assert_eq!(name(Family::Llama31With8B, 2_537_578_496), None);
    assert_eq!(name(Family::Llama31With8B, 2_537_600_000).unwrap(), "Llama 3.1 8B, 1 of 32 layers");
    assert_eq!(name(Family::Llama31With8B, 16 << 30).unwrap(), "Llama 3.1 8B");
    assert_eq!(name(Family::DeepSeekV3, 16 << 30).unwrap(), "DeepSeek-V3, 2 of 61 layers");
    assert_eq!(name(Family::DeepSeekV3, 8 << 30).unwrap(), "DeepSeek-V3, 1 of 61 layers, 64 of 256 experts");
}

#[test]
fn below_a_layer_all_tensors_are_there_and_narrower() {
    let within = Family::Llama31With8B.within(1 << 30).unwrap();
    assert_eq!((within.tensors.len(), within.narrowed_by), (291, 4));
    assert_eq!(within.name(), "Llama 3.1 8B, dimensions by 4");
    assert!(within.file_bytes() <= 1 << 30 && within.file_bytes() > 1 << 29);
    assert!(Family::Llama31With8B.within(100_000).is_some_and(|small| small.tensors.len() == 291));
    assert_eq!(Family::Llama31With8B.within(1000), None);
    assert_eq!(Family::Lora.within(1 << 30).unwrap().narrowed_by, 1);
}

#[test]
fn a_header_is_one_that_our_own_reader_takes_and_places_are_those_in_it() {
    for shaped in [Family::Lora.whole(), Family::DeepSeekV3.scaled(8 << 30).unwrap()] {
        let read = Header::of_bytes(Format::Safetensors, &shaped.header, shaped.file_bytes()).unwrap();
        assert_eq!((read.len, read.tensors.len()), (shaped.header.len() as u64, shaped.tensors.len()));
        for ((tensor, (at, len)), found) in shaped.tensors.iter().zip(shaped.places()).zip(read.tensors) {
            assert_eq!((&tensor.name, tensor.dtype, &tensor.shape), (&found.name, found.dtype, &found.shape));
            assert_eq!(found.range, at..at + len, "{}", tensor.name);
            assert_eq!(at % 8, 0, "{}", tensor.name);
        }
    }
}
