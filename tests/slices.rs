//! Every rank checks its own slices of a signed model, whatever the parallelism: on the shapes of Llama-8B, Qwen3-32B,
//! Qwen3-30B-A3B and DeepSeek-V3, scaled down. One flipped bit is refused by the rank that holds it, and by no other.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use common::{Random, program, python, write};
use serde_json::{Value, json};
use tensorseal::device::Backend;
use tensorseal::device::cpu::{Cpu, Memory, Settings};
use tensorseal::format::{Dtype, Format};
use tensorseal::key::{Curve, PrivateKey};
use tensorseal::layout::{Extent, Layout};
use tensorseal::manifest::{Manifest, ResourceName};
use tensorseal::resident::ResidentOptions;
use tensorseal::sign::KeySigner;
use tensorseal::tensors::{
    Coverage, FILE_NAME, FileTiles, MeasuredSlice, Place, Slice, SliceError, TensorManifest, TensorRefusal, expect,
    verify_slices,
};
use tensorseal::verify::{KeyVerifier, Verified};
use tensorseal::{Error, VerifyError, selftest, sign_resident};

/// The type and shape of each tensor of a model, by name.
type Shapes = BTreeMap<String, (&'static str, Vec<u64>)>;

/// A model's files, and the bytes of its tensors.
struct Model {
    shapes: Shapes,
    files: Vec<(String, Vec<u8>)>,
    data: BTreeMap<String, Vec<u8>>,
}

const fn width(dtype: &str) -> u64 {
    match dtype.as_bytes() {
        b"F32" => 4,
        b"BF16" => 2,
        _ => 1,
    }
}

impl Model {
    /// Random bytes, in two files.
    fn new(shapes: Shapes, seed: u64) -> Self {
        let mut random = Random(seed);
        let (mut files, mut data) = (Vec::new(), BTreeMap::new());
        for part in 0..2 {
            let (mut header, mut body) = (serde_json::Map::new(), Vec::new());
            for (name, (dtype, shape)) in shapes.iter().skip(part).step_by(2) {
                let bytes = random.bytes((shape.iter().product::<u64>() * width(dtype)) as usize);
                let offsets = [body.len(), body.len() + bytes.len()];
                header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
                body.extend_from_slice(&bytes);
                data.insert(name.clone(), bytes);
            }
            let text = Value::Object(header).to_string();
            let file = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &body].concat();
            files.push((format!("model-{part}.safetensors"), file));
        }
        Self { shapes, files, data }
    }

    fn manifest(&self) -> TensorManifest {
        let of = |(name, bytes): &(String, Vec<u8>)| {
            let name = ResourceName::parse(name).unwrap();
            let mut tiles = FileTiles::new(name, Format::Safetensors, bytes.len() as u64);
            bytes.chunks(5000).for_each(|piece| tiles.update(piece).unwrap());
            tiles.finish().unwrap()
        };
        TensorManifest::new(self.files.iter().map(of).collect()).unwrap()
    }

    /// Signed with the files, and verified.
    fn verified(&self) -> Verified<TensorManifest> {
        let tensors = self.manifest().to_bytes();
        let signed =
            signed(self.files.iter().map(|(name, bytes)| (&**name, &bytes[..])).chain([(FILE_NAME, &tensors[..])]));
        signed.tensor_manifest(&ResourceName::parse(FILE_NAME).unwrap(), &tensors).unwrap()
    }

    fn row(&self, name: &str) -> usize {
        let (dtype, shape) = &self.shapes[name];
        (shape.last().unwrap() * width(dtype)) as usize
    }

    /// The bytes of a slice, one row after the other.
    fn bytes(&self, name: &str, ranges: &[Range<u64>]) -> Vec<u8> {
        let (dtype, shape) = &self.shapes[name];
        let (last, outer) = ranges.split_last().unwrap();
        let mut rows = vec![0];
        for (range, size) in outer.iter().zip(shape) {
            rows = rows.iter().flat_map(|row| range.clone().map(move |index| row * size + index)).collect();
        }
        let columns = (last.start * width(dtype)) as usize..(last.end * width(dtype)) as usize;
        let data = &self.data[name];
        let row = |row: &u64| &data[*row as usize * self.row(name)..][..self.row(name)][columns.clone()];
        rows.iter().flat_map(row).copied().collect()
    }
}

fn signed<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>) -> Verified<Manifest> {
    let layout =
        |(name, bytes)| (ResourceName::parse(name).unwrap(), Layout::<Memory>::new(vec![Extent::Host(bytes)]).unwrap());
    let resources: Vec<_> = files.map(layout).collect();
    let key = PrivateKey::generate(Curve::P256).unwrap();
    let verifier = KeyVerifier::new(key.public_key());
    let device = Cpu::open(Settings::default()).unwrap();
    let signer = KeySigner::new(key);
    let signed = sign_resident(&device, "m", &resources, &signer, &ResidentOptions::default(), None).unwrap();
    signed.bundle.verify(&verifier).unwrap()
}

// ---- models, an eighth to a thirty-second of the real ones, with the same ratios --------------------------------

/// Hidden size, heads, heads of keys, size of a head, inner size, vocabulary.
fn dense(scale: u64, [hidden, heads, kv_heads, head, inner, vocabulary]: [u64; 6], bias: bool) -> Shapes {
    let (hidden, head, inner) = (hidden / scale, head / scale, inner / scale);
    let mut shapes = Shapes::new();
    let mut add = |name: &str, shape: &[u64]| shapes.insert(name.to_owned(), ("BF16", shape.to_vec()));
    add("embed.weight", &[vocabulary, hidden]);
    add("lm_head.weight", &[vocabulary, hidden]);
    add("norm.weight", &[hidden]);
    add("q_proj.weight", &[heads * head, hidden]);
    add("k_proj.weight", &[kv_heads * head, hidden]);
    add("v_proj.weight", &[kv_heads * head, hidden]);
    add("o_proj.weight", &[hidden, heads * head]);
    add("gate_proj.weight", &[inner, hidden]);
    add("up_proj.weight", &[inner, hidden]);
    add("down_proj.weight", &[hidden, inner]);
    if bias {
        add("q_proj.bias", &[heads * head]);
        add("k_proj.bias", &[kv_heads * head]);
        add("v_proj.bias", &[kv_heads * head]);
        add("o_proj.bias", &[hidden]);
    }
    shapes
}

/// Llama-3.1-8B by 16.
fn llama() -> Shapes {
    dense(16, [4096, 32, 8, 128, 14336, 64 * 8], false)
}

/// Qwen3-32B by 16; with the biases that Qwen2 has.
fn qwen() -> Shapes {
    dense(16, [5120, 64, 8, 128, 25600, 40 * 8], true)
}

/// Qwen3-30B-A3B by 8, which has four heads of keys and values; its experts stacked, as loaders and some checkpoints have it.
fn qwen_moe() -> Shapes {
    let mut shapes = dense(8, [2048, 32, 4, 128, 768, 40 * 8], false);
    shapes.insert("experts.gate_up".to_owned(), ("BF16", vec![16, 2 * 96, 256]));
    shapes.insert("experts.down".to_owned(), ("BF16", vec![16, 256, 96]));
    shapes
}

/// DeepSeek-V3 by 16, blocks of scales included. Eight experts of 256.
fn deepseek() -> Shapes {
    let mut shapes = Shapes::new();
    let mut fp8 = |name: &str, rows: u64, columns: u64| {
        let (rows, columns) = (rows / 16, columns / 16);
        shapes.insert(format!("{name}.weight"), ("F8_E4M3", vec![rows, columns]));
        let scales = vec![rows.div_ceil(8), columns.div_ceil(8)];
        shapes.insert(format!("{name}.weight_scale_inv"), ("F32", scales));
    };
    fp8("q_a_proj", 1536, 7168);
    fp8("q_b_proj", 24576, 1536);
    fp8("kv_a_proj_with_mqa", 576, 7168);
    fp8("kv_b_proj", 32768, 512);
    fp8("o_proj", 7168, 16384);
    for expert in 0..8 {
        fp8(&format!("experts.{expert}.gate_proj"), 2048, 7168);
        fp8(&format!("experts.{expert}.up_proj"), 2048, 7168);
        fp8(&format!("experts.{expert}.down_proj"), 7168, 2048);
    }
    let mut add = |name: &str, dtype, shape: &[u64]| shapes.insert(name.to_owned(), (dtype, shape.to_vec()));
    add("gate.weight", "BF16", &[8, 448]);
    add("gate.e_score_correction_bias", "F32", &[8]);
    add("q_a_layernorm.weight", "BF16", &[96]);
    add("kv_a_layernorm.weight", "BF16", &[32]);
    shapes
}

// ---- ranks --------------------------------------------------------------------------------------------------------

/// One parameter of a rank: slices of signed tensors, side by side in rows or one below the other.
struct Parameter {
    parts: Vec<(String, Vec<Range<u64>>)>,
    /// Bytes of padding behind each row.
    pad: usize,
}

/// The share of `rank` of `ranks` along a dimension.
fn share(size: u64, rank: u64, ranks: u64) -> Range<u64> {
    assert!(size.is_multiple_of(ranks), "{size} over {ranks}");
    size / ranks * rank..size / ranks * (rank + 1)
}

struct Rank<'a> {
    model: &'a Model,
    rank: u64,
    ranks: u64,
    kv_heads: u64,
    parameters: Vec<Parameter>,
}

impl Rank<'_> {
    fn whole(&self, name: &str) -> Vec<Range<u64>> {
        self.model.shapes[name].1.iter().map(|&size| 0..size).collect()
    }

    /// The rank's share along one dimension.
    fn along(&self, name: &str, dimension: usize) -> (String, Vec<Range<u64>>) {
        let mut ranges = self.whole(name);
        ranges[dimension] = share(ranges[dimension].end, self.rank, self.ranks);
        (name.to_owned(), ranges)
    }

    /// The rank's heads of keys or values: with more ranks than heads, several hold the same one.
    fn keys(&self, name: &str) -> (String, Vec<Range<u64>>) {
        let mut ranges = self.whole(name);
        let copies = (self.ranks / self.kv_heads).max(1);
        ranges[0] = share(ranges[0].end, self.rank / copies, self.ranks / copies);
        (name.to_owned(), ranges)
    }

    fn add(&mut self, parts: impl IntoIterator<Item = (String, Vec<Range<u64>>)>) {
        let pad = [0, 0, 48, 3][self.parameters.len() % 4];
        self.parameters.push(Parameter { parts: parts.into_iter().collect(), pad });
    }

    fn replicate(&mut self, name: &str) {
        let ranges = self.whole(name);
        self.add([(name.to_owned(), ranges)]);
    }
}

/// The parameters of a rank of a dense model, as vLLM has them: QKV and gate-up fused.
fn dense_rank<'a>(model: &'a Model, rank: u64, ranks: u64, kv_heads: u64) -> Rank<'a> {
    let mut of = Rank { model, rank, ranks, kv_heads, parameters: Vec::new() };
    for kind in ["weight", "bias"] {
        if model.shapes.contains_key(&format!("q_proj.{kind}")) {
            let of_kind = |name: &str| format!("{name}.{kind}");
            let qkv = [of.along(&of_kind("q_proj"), 0), of.keys(&of_kind("k_proj")), of.keys(&of_kind("v_proj"))];
            of.add(qkv);
        }
    }
    let gate_up = [of.along("gate_proj.weight", 0), of.along("up_proj.weight", 0)];
    of.add(gate_up);
    for (name, dimension) in [("o_proj.weight", 1), ("down_proj.weight", 1), ("embed.weight", 0), ("lm_head.weight", 0)]
    {
        let part = of.along(name, dimension);
        of.add([part]);
    }
    for name in ["norm.weight", "o_proj.bias"] {
        if model.shapes.contains_key(name) {
            of.replicate(name);
        }
    }
    of
}

/// A rank of DeepSeek-V3 with tensor parallelism in attention, and experts either split themselves, or by expert.
fn deepseek_rank<'a>(model: &'a Model, rank: u64, ranks: u64, experts_whole: bool) -> Rank<'a> {
    let mut of = Rank { model, rank, ranks, kv_heads: 1, parameters: Vec::new() };
    for kind in ["weight", "weight_scale_inv"] {
        let name = |name: &str| format!("{name}.{kind}");
        for (tensor, dimension) in [("q_b_proj", 0), ("kv_b_proj", 0), ("o_proj", 1)] {
            let part = of.along(&name(tensor), dimension);
            of.add([part]);
        }
        of.replicate(&name("q_a_proj"));
        of.replicate(&name("kv_a_proj_with_mqa"));
        // Experts are stacked: gate and up of one are a slab of w13.
        let mine = if experts_whole { share(8, rank, ranks) } else { 0..8 };
        let of_expert = |of: &Rank<'_>, tensor: &str, expert: u64, dimension: usize| {
            let name = format!("experts.{expert}.{tensor}.{kind}");
            if experts_whole { (name.clone(), of.whole(&name)) } else { of.along(&name, dimension) }
        };
        let w13: Vec<_> = mine
            .clone()
            .flat_map(|expert| ["gate_proj", "up_proj"].map(|tensor| of_expert(&of, tensor, expert, 0)))
            .collect();
        let w2: Vec<_> = mine.map(|expert| of_expert(&of, "down_proj", expert, 1)).collect();
        of.add(w13);
        of.add(w2);
    }
    for name in ["gate.weight", "gate.e_score_correction_bias", "q_a_layernorm.weight", "kv_a_layernorm.weight"] {
        of.replicate(name);
    }
    of
}

/// A rank of a model with stacked experts: along experts, along their rows, or along their columns.
fn stacked_rank<'a>(model: &'a Model, rank: u64, ranks: u64, dimension: usize) -> Rank<'a> {
    let mut of = dense_rank(model, rank, ranks, 4);
    // The other of the two is cut along the same dimension of the experts' inner size.
    let other = [0, 2, 1][dimension];
    for (name, dimension) in [("experts.gate_up", dimension), ("experts.down", other)] {
        let part = of.along(name, dimension);
        of.add([part]);
    }
    of
}

/// A slice as a rank holds it: of which tensor, which ranges, where in its memory, with which strides.
type Held = (String, Vec<Range<u64>>, u64, Vec<u64>);

/// A rank's memory: one buffer a parameter, its bytes at an odd place.
struct Loaded<B> {
    buffer: B,
    /// Name, ranges, where the first byte lies, and the strides.
    slices: Vec<Held>,
}

fn load<B: Backend>(device: &B, rank: &Rank<'_>) -> Vec<Loaded<B::Buffer>> {
    let of = |parameter: &Parameter| {
        let (mut image, mut slices) = (vec![0xEE; 24], Vec::new());
        for (name, ranges) in &parameter.parts {
            let row =
                ranges.last().map(|row| (row.end - row.start) * width(rank.model.shapes[name].0)).unwrap() as usize;
            let bytes = rank.model.bytes(name, ranges);
            // Rows of vectors have no stride to pad.
            let pad = if ranges.len() > 1 { parameter.pad } else { 0 };
            let mut strides = Vec::new();
            let mut stride = (row + pad) as u64;
            for range in ranges[..ranges.len() - 1].iter().rev() {
                strides.push(stride);
                stride *= range.end - range.start;
            }
            strides.reverse();
            slices.push((name.clone(), ranges.clone(), image.len() as u64, strides));
            for row in bytes.chunks(row) {
                image.extend_from_slice(row);
                image.resize(image.len() + pad, 0xEE);
            }
        }
        let mut buffer = device.alloc(image.len() as u64).unwrap();
        selftest::write(device, &image, &mut buffer, 0).unwrap();
        Loaded { buffer, slices }
    };
    rank.parameters.iter().map(of).collect()
}

fn slices<'a, B>(loaded: &'a [Loaded<B>]) -> Vec<Slice<'a, B>>
where
    B: tensorseal::layout::Buffer,
{
    let of = |loaded: &'a Loaded<B>| {
        loaded.slices.iter().map(move |(tensor, ranges, at, strides)| Slice {
            tensor,
            ranges: ranges.clone(),
            place: Place::strided(&loaded.buffer, *at, strides.clone()),
        })
    };
    loaded.iter().flat_map(of).collect()
}

/// What a rank checks of its memory, and whether that is all that it should hold.
fn check<B: Backend>(device: &B, manifest: &Verified<TensorManifest>, loaded: &[Loaded<B::Buffer>]) -> u64 {
    let slices = slices(loaded);
    let measured = verify_slices(device, manifest, &slices, None).unwrap();
    let mut coverage = Coverage::new(manifest);
    coverage.add(&measured).unwrap();
    let mut named = Vec::new();
    for slice in &slices {
        coverage.holds(slice.tensor, &slice.ranges).unwrap();
        named.push(slice.tensor);
    }
    let unchecked = Coverage::new(manifest).finish().unwrap_err();
    assert!(unchecked.to_string().contains("not checked"), "{unchecked}");
    let others: Vec<_> = manifest.tensors().iter().filter(|tensor| !named.contains(&tensor.name())).collect();
    for other in &others {
        coverage.not_held(other.name(), "an expert of another rank").unwrap();
    }
    let report = coverage.finish().unwrap();
    assert_eq!(report.not_held.len(), others.len());
    assert_eq!(report.whole + report.in_part + others.len(), manifest.tensors().len());
    assert_eq!(report.bytes, measured.iter().map(MeasuredSlice::bytes).sum::<u64>());
    report.bytes
}

/// All ranks are right; one bit of one of them is wrong, and that rank alone says so of all, with the tensor and the tile.
fn ranks<'a>(model: &'a Model, make: impl Fn(&'a Model, u64, u64) -> Rank<'a>) {
    let device = Cpu::open(Settings::default()).unwrap();
    let manifest = model.verified();
    for count in [2, 4, 8] {
        let all: Vec<_> = (0..count).map(|number| make(model, number, count)).collect();
        let mut memory: Vec<_> = all.iter().map(|rank| load(&device, rank)).collect();
        for loaded in &memory {
            assert!(check(&device, &manifest, loaded) > 0);
        }
        let mut random = Random(count);
        let bad = random.below(count as usize);
        for _ in 0..3 {
            let parameter = random.below(all[bad].parameters.len());
            let part = random.below(all[bad].parameters[parameter].parts.len());
            let (name, ranges) = all[bad].parameters[parameter].parts[part].clone();
            // The last byte of the first row of that part, wherever that lies.
            let row = (ranges.last().unwrap().end - ranges.last().unwrap().start) * width(model.shapes[&name].0);
            let at = memory[bad][parameter].slices[part].2 + row - 1;
            let flip = |memory: &mut [Vec<Loaded<_>>]| {
                let buffer = &mut memory[bad][parameter].buffer;
                let byte = device.download(buffer, at..at + 1).unwrap()[0];
                selftest::write(&device, &[byte ^ 0x10], buffer, at).unwrap();
            };
            flip(&mut memory);
            let said = memory.iter().map(|loaded| verify_slices(&device, &manifest, &slices(loaded), None));
            let mut refused: Vec<_> = said.enumerate().filter_map(|(rank, said)| Some((rank, said.err()?))).collect();
            flip(&mut memory);
            assert_eq!(refused.iter().map(|(rank, _)| *rank).collect::<Vec<_>>(), [bad], "of {count} ranks");
            let (_, error) = refused.remove(0);
            let Some(VerifyError::Tensors(TensorRefusal::Tiles(tiles))) = error.refusal() else { panic!("{error}") };
            let [tile] = &tiles.first[..] else { panic!("{error}") };
            assert_eq!(tile.tensor, name);
            // Of the slice's first row, the last element.
            let element: Vec<u64> = ranges.iter().map(|range| range.start).collect();
            for (dimension, (range, start)) in tile.ranges.iter().zip(element).enumerate() {
                let at = if dimension + 1 == ranges.len() { ranges[dimension].end - 1 } else { start };
                assert!(range.contains(&at), "{error}");
            }
            assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        }
    }
}

#[test]
fn ranks_of_a_dense_model_check_what_they_hold() {
    let model = Model::new(llama(), 1);
    ranks(&model, |model, rank, count| dense_rank(model, rank, count, 8));
}

#[test]
fn ranks_of_a_model_with_biases_check_what_they_hold() {
    let model = Model::new(qwen(), 2);
    ranks(&model, |model, rank, count| dense_rank(model, rank, count, 8));
}

#[test]
fn ranks_share_heads_and_cut_stacked_experts_in_three_ways() {
    let model = Model::new(qwen_moe(), 3);
    for dimension in 0..3 {
        ranks(&model, |model, rank, count| stacked_rank(model, rank, count, dimension));
    }
}

#[test]
fn ranks_of_deepseek_check_scales_and_experts_whole_or_in_part() {
    let model = Model::new(deepseek(), 4);
    for whole in [false, true] {
        ranks(&model, |model, rank, count| deepseek_rank(model, rank, count, whole));
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn a_rank_checks_what_it_holds_on_webgpu() {
    use tensorseal::device::Wgpu;
    let Some(found) = Wgpu::list().into_iter().find(|device| device.memory.is_some() || device.driver.is_some()) else {
        return common::missing("no Vulkan adapter (install mesa-vulkan-drivers)");
    };
    let tensorseal::DeviceKind::Wgpu(name) = found.kind else { panic!("{found:?}") };
    let device = Wgpu::open(name.as_deref()).unwrap();
    let model = Model::new(deepseek(), 5);
    let manifest = model.verified();
    let rank = deepseek_rank(&model, 5, 8, false);
    let mut loaded = load(&device, &rank);
    assert!(check(&device, &manifest, &loaded) > 0);
    let byte = device.download(&loaded[0].buffer, 24..25).unwrap()[0];
    selftest::write(&device, &[byte ^ 0x10], &mut loaded[0].buffer, 24).unwrap();
    let error = verify_slices(&device, &manifest, &slices(&loaded), None).unwrap_err();
    assert!(error.to_string().contains("\"q_b_proj.weight\" rows"), "{error}");
}

/// What is no slice of the signed tensors is refused, and nothing else is said of it.
#[test]
fn what_cannot_be_checked_is_refused() {
    let model = Model::new(llama(), 6);
    let manifest = model.verified();
    let device = Cpu::open(Settings::default()).unwrap();
    let rank = dense_rank(&model, 0, 2, 8);
    let loaded = load(&device, &rank);
    let try_one = |tensor: &str, ranges: &[Range<u64>]| {
        let place = Place::dense(&loaded[0].buffer, 0);
        verify_slices(&device, &manifest, &[Slice { tensor, ranges: ranges.to_vec(), place }], None).unwrap_err()
    };
    assert!(matches!(verify_slices::<Cpu>(&device, &manifest, &[], None), Err(Error::Slice(SliceError::Nothing))));
    let unsigned = try_one("q_proj.weight2", &[0..1, 0..1]);
    assert!(
        matches!(unsigned.refusal(), Some(VerifyError::Tensors(TensorRefusal::UnsignedTensor { .. }))),
        "{unsigned}"
    );
    let third = try_one("q_proj.weight", &[0..85, 0..256]);
    assert!(matches!(&third, Error::Slice(SliceError::NotTiles { dimension: 0, .. })), "{third}");
    // One slice in the place of another: every tile is wrong.
    let swapped = try_one("v_proj.weight", &[0..32, 0..256]);
    assert!(swapped.to_string().contains("32 tiles are not as signed"), "{swapped}");

    // Coverage: of another manifest nothing counts; what is half checked, or said not to be held and checked, is named.
    let other = Model::new(llama(), 7).verified();
    let measured = verify_slices(&device, &manifest, &slices(&loaded), None).unwrap();
    let found = Coverage::new(&other).add(&measured).unwrap_err();
    assert!(matches!(found, Error::Slice(SliceError::OtherManifest { .. })), "{found}");
    let mut coverage = Coverage::new(&manifest);
    coverage.add(&measured).unwrap();
    coverage.not_held("norm.weight", "no reason").unwrap();
    assert!(
        coverage.not_held("other.weight", "").is_err()
            && coverage.holds("norm.weight", std::slice::from_ref(&(0..1))).is_err()
    );
    let error = coverage.finish().unwrap_err();
    let Some(VerifyError::Tensors(TensorRefusal::NotCovered(gaps))) = error.refusal() else { panic!("{error}") };
    assert_eq!(gaps.contradicted, ["norm.weight"]);
    assert_eq!(gaps.in_part.len(), model.shapes.len() - 1, "half of each is with the other rank: {error}");
    let nothing = Coverage::new(&manifest);
    assert!(
        matches!(nothing.finish().unwrap_err().refusal(), Some(VerifyError::Tensors(TensorRefusal::NotCovered(gaps))) if gaps.unchecked.len() == model.shapes.len())
    );
}

/// What is empty can be checked and shows nothing: a rank that holds no byte has checked no model.
#[test]
fn empty_tensors_alone_are_no_coverage() {
    let shapes: [(&str, &[u64]); 2] = [("empty", &[0, 4]), ("full", &[8, 4])];
    let model = Model::new(shapes.map(|(name, shape)| (name.to_owned(), ("U8", shape.to_vec()))).into(), 1);
    let manifest = model.verified();
    let device = Cpu::open(Settings::default()).unwrap();
    let buffer = device.alloc(32).unwrap();
    let slice = Slice::whole(&manifest, "empty", Place::dense(&buffer, 0)).unwrap();
    let measured = verify_slices(&device, &manifest, &[slice], None).unwrap();
    assert_eq!(measured[0].bytes(), 0);
    let mut coverage = Coverage::new(&manifest);
    coverage.add(&measured).unwrap();
    coverage.not_held("full", "elsewhere").unwrap();
    let error = coverage.finish().unwrap_err();
    let Some(VerifyError::Tensors(TensorRefusal::NotCovered(gaps))) = error.refusal() else { panic!("{error}") };
    assert!(gaps.nothing && gaps.unchecked.is_empty(), "{error}");
}

/// Tiles are bytes alone: what the memory says of itself has to be what was signed, too.
#[test]
fn memory_of_another_type_or_shape_is_not_the_signed_slice() {
    let shapes: [(&str, &[u64]); 1] = [("w", &[8, 4])];
    let manifest =
        Model::new(shapes.map(|(name, shape)| (name.to_owned(), ("F32", shape.to_vec()))).into(), 1).verified();
    let dtype = |name| Dtype::from_safetensors(name).unwrap();
    let half = [0..4, 0..4];
    assert!(expect(&manifest, "w", &half, dtype("F32"), &[4, 4]).is_ok());
    for (tensor, of, shape) in [
        ("v", "F32", &[4, 4][..]),
        ("w", "I32", &[4, 4]),
        ("w", "F32", &[8, 4]),
        ("w", "F32", &[16]),
        ("w", "F32", &[]),
    ] {
        let error = expect(&manifest, tensor, &half, dtype(of), shape).unwrap_err();
        let Some(VerifyError::Tensors(refusal)) = error.refusal() else { panic!("{error}") };
        let unsigned = matches!(refusal, TensorRefusal::UnsignedTensor { .. });
        assert!(unsigned == (tensor == "v") && (unsigned || matches!(refusal, TensorRefusal::OtherTensor { .. })));
    }
}

/// A manifest is verified only as the file that was signed, about files that were signed with it.
#[test]
fn a_manifest_that_is_not_the_signed_one_is_refused() {
    let model = Model::new(llama(), 8);
    let tensors = model.manifest().to_bytes();
    let name = ResourceName::parse(FILE_NAME).unwrap();
    let files = || model.files.iter().map(|(name, bytes)| (&**name, &bytes[..]));
    let all = signed(files().chain([(FILE_NAME, &tensors[..])]));
    assert!(all.tensor_manifest(&name, &tensors).is_ok());
    let mut flipped = tensors.clone();
    flipped[100] ^= 1;
    let refused = |signed: &Verified<Manifest>, bytes: &[u8]| signed.tensor_manifest(&name, bytes).unwrap_err();
    assert!(matches!(refused(&all, &flipped), TensorRefusal::OtherManifest { .. }));
    assert!(matches!(refused(&all, &tensors[..99]), TensorRefusal::OtherManifest { .. }));
    assert!(matches!(refused(&signed(files()), &tensors), TensorRefusal::UnsignedManifest { .. }));
    let one_less = signed(files().skip(1).chain([(FILE_NAME, &tensors[..])]));
    assert!(refused(&one_less, &tensors).to_string().contains("is listed and not signed"));
    let more = signed(files().chain([("more/b.gguf", &b"GGUF"[..]), (FILE_NAME, &tensors[..])]));
    let said = refused(&more, &tensors).to_string();
    assert!(said.contains("\"more/b.gguf\" is there and not listed"), "{said}");
    let none = signed(files().chain([(FILE_NAME, &tensors[..50])]));
    assert!(matches!(refused(&none, &tensors[..50]), TensorRefusal::Malformed { .. }));
}

/// Ours of a model is theirs, byte by byte, and theirs is read by us.
#[test]
fn an_implementation_from_the_document_agrees() {
    let Some(python) = python() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/tensor_manifest.py");
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (index, shapes) in [qwen_moe(), deepseek()].into_iter().enumerate() {
        // The first tensors of each: theirs is slow.
        let small = |(_, shape): &(&str, Vec<u64>)| shape.iter().product::<u64>() < 300_000;
        let shapes = shapes.into_iter().filter(|(_, of)| small(of)).take(12).collect();
        let model = Model::new(shapes, 9 + index as u64);
        for (name, bytes) in &model.files {
            write(folder.join(format!("{index}")).join(name), bytes);
        }
        let (ours, theirs) = (folder.join("ours"), folder.join("theirs"));
        let run = |verb: &str, path: &Path| {
            let folder_of = format!("{index}");
            let args = match verb {
                "make" => [script.to_str().unwrap(), verb, &folder_of, path.to_str().unwrap()].map(str::to_owned),
                _ => [script.to_str().unwrap(), verb, path.to_str().unwrap(), &folder_of].map(str::to_owned),
            };
            program(folder, &python, &args)
        };
        let manifest = model.manifest();
        write(&ours, manifest.to_bytes());
        let said = run("check", &ours).json();
        assert_eq!(said["root"], manifest.root().to_hex());
        assert_eq!(said["tensors"], model.shapes.len());
        run("make", &theirs);
        let read = TensorManifest::parse(&std::fs::read(&theirs).unwrap()).unwrap();
        assert_eq!(read, manifest);
    }
}
