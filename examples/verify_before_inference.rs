//! Inference on weights that were verified in the memory they are used from.
//!
//! ```sh
//! cargo run --example verify_before_inference                     # on the CPU
//! cargo run --example verify_before_inference --features wgpu     # and on a GPU; llvmpipe if there is none
//! cargo run --example verify_before_inference -- --flip           # then one bit flips, and nothing runs: exit code 1
//! ```
//!
//! It makes a small model (two layers, from a fixed seed), signs it, loads it through `load_verified`, runs it on the
//! buffers that were verified, and seals them. `forward_cpu` and `forward_wgpu` take a `Verified<LoadedModel<_>>`: there
//! is no way to call them with weights that were not checked.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tensorseal::device::cpu::{Cpu, Settings, Silent};
use tensorseal::device::{Backend, Device};
use tensorseal::key::{Curve, PrivateKey};
use tensorseal::layout::Layout;
use tensorseal::loader::{LoadOptions, LoadedModel, load_verified};
use tensorseal::resident::OnDevice;
use tensorseal::seal::{Budget, Region, Seal, SealOptions};
use tensorseal::sign::{KeySigner, SignOptions};
use tensorseal::verify::KeyVerifier;
use tensorseal::{Bundle, Verified, sign};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const INPUTS: usize = 48;
const HIDDEN: usize = 200;
const OUTPUTS: usize = 10;

pub(crate) fn main() -> ExitCode {
    let flip = std::env::args().any(|argument| argument == "--flip");
    match run(flip) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            // 1: the model is not what was signed. 3: that could not be found out. So it is with `tensorseal verify`.
            let no = error.downcast_ref::<tensorseal::Error>().is_some_and(|error| error.refusal().is_some());
            ExitCode::from(if no { 1 } else { 3 })
        }
    }
}

/// All of it. With `flip`, a bit of the model flips after the first inference, and there is no second one.
pub(crate) fn run(flip: bool) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let files = Files { model: folder.path().join("model"), signature: folder.path().join("model.sig") };
    let weights = Weights::new();
    fs::create_dir(&files.model)?;
    fs::write(files.weights(), weights.safetensors())?;
    fs::write(files.model.join("config.json"), br#"{"layers": 2, "activation": "relu"}"#)?;

    // Whoever makes a model signs it, once. Whoever runs it needs the public key and the bundle.
    let key = PrivateKey::generate(Curve::P256)?;
    let trusted = KeyVerifier::new(key.public_key());
    let cpu = Device::Cpu(Cpu::open(Settings::default())?);
    let options = SignOptions::default();
    sign(&files.model, &files.signature, &KeySigner::new(key), &options, &cpu, &Silent)?.write(&files.signature)?;

    let input: Vec<f32> = Random(7).floats(INPUTS);
    let expected = weights.forward(&input);
    infer(&files, &trusted, &input, &expected)?.into_iter().try_for_each(|(_, run)| run)?;
    if flip {
        let mut bytes = fs::read(files.weights())?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(files.weights(), bytes)?;
        println!("\none bit of the weights has flipped");
        let runs = infer(&files, &trusted, &input, &expected)?;
        if let Some((device, _)) = runs.iter().find(|(_, run)| run.is_ok()) {
            return Err(format!("{device} ran on weights that nobody signed").into());
        }
        runs.iter().for_each(|(device, _)| println!("{device}: stopped"));
        runs.into_iter().try_for_each(|(_, run)| run)?;
    }
    Ok(())
}

/// What each device that is there came to.
type Runs = Vec<(&'static str, Result<()>)>;

/// Loads the model, runs it, compares what comes out, and seals its memory, on each device for itself.
fn infer(files: &Files, trusted: &KeyVerifier, input: &[f32], expected: &[f32]) -> Result<Runs> {
    #[allow(unused_mut)]
    let mut runs = vec![("cpu", on_cpu(files, trusted, input, expected))];
    #[cfg(feature = "wgpu")]
    if let Some(gpu) = gpu::open()? {
        runs.push(("wgpu", on_gpu(&gpu, files, trusted, input, expected)));
    }
    Ok(runs)
}

fn on_cpu(files: &Files, trusted: &KeyVerifier, input: &[f32], expected: &[f32]) -> Result<()> {
    let cpu = Cpu::open(Settings::default())?;
    // An error leaves nothing behind that could be used: the buffers were dropped where they were found out.
    let model = load_verified(&files.model, &files.signature, trusted, &LoadOptions::default(), &cpu, &Silent)?;
    println!("cpu: {} bytes verified in place, signed by {}", model.report().device_bytes, model.identity());
    compare("cpu", &forward_cpu(&model, input)?, expected)?;
    keep_watch(&cpu, &model, files, trusted)
}

#[cfg(feature = "wgpu")]
fn on_gpu(
    gpu: &tensorseal::device::wgpu::Wgpu,
    files: &Files,
    trusted: &KeyVerifier,
    input: &[f32],
    expected: &[f32],
) -> Result<()> {
    let model = load_verified(&files.model, &files.signature, trusted, &LoadOptions::default(), gpu, &Silent)?;
    println!("{}: {} bytes verified in place", gpu.kind(), model.report().device_bytes);
    compare("wgpu", &gpu::forward(gpu, &model, input)?, expected)?;
    keep_watch(gpu, &model, files, trusted)
}

/// The forward pass on the host, on the very bytes that were verified.
fn forward_cpu(model: &Verified<LoadedModel<Cpu>>, input: &[f32]) -> Result<Vec<f32>> {
    let floats = |name: &str| -> Result<Vec<f32>> {
        let tensor = model.tensor(name).ok_or_else(|| format!("no tensor {name}"))?;
        Ok(tensor
            .bytes()
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect())
    };
    let layer = |name: &str, input: &[f32]| -> Result<Vec<f32>> {
        let (weight, bias) = (floats(&format!("{name}.weight"))?, floats(&format!("{name}.bias"))?);
        let dot = |row: &[f32]| row.iter().zip(input).map(|(weight, x)| weight * x).sum::<f32>();
        Ok(weight.chunks(input.len()).zip(bias).map(|(row, bias)| dot(row) + bias).collect())
    };
    let hidden: Vec<f32> = layer("fc1", input)?.into_iter().map(|x| x.max(0.0)).collect();
    layer("fc2", &hidden)
}

/// Seals the memory that was verified, and looks again: later, and again and again, in a real program.
fn keep_watch<B: Backend>(
    backend: &B,
    model: &Verified<LoadedModel<B>>,
    files: &Files,
    trusted: &KeyVerifier,
) -> Result<()> {
    let devices = [OnDevice::idle(backend)];
    let region = |(name, _, buffer)| Ok(Region { name, device: 0, layout: Layout::whole(buffer)? });
    let regions = model.tensor_files().map(region).collect::<Result<Vec<_>>>()?;
    let signed = Bundle::read(&files.signature, 1 << 20)?.verify(trusted).map_err(tensorseal::Error::from)?;
    let mut seal = Seal::take_signed(&devices, &regions, &signed, SealOptions::default())?;
    println!("{}", seal.reverify(&devices, &regions, Budget::All)?);
    Ok(())
}

fn compare(device: &str, found: &[f32], expected: &[f32]) -> Result<()> {
    let far = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    if found.len() != expected.len() || far.is_nan() || far > 1e-4 {
        return Err(format!("{device}: the output is {found:?}, and should be {expected:?}").into());
    }
    println!("{device}: the output is that of the reference, within {far:e}");
    Ok(())
}

struct Files {
    model: PathBuf,
    signature: PathBuf,
}

impl Files {
    fn weights(&self) -> PathBuf {
        Path::new(&self.model).join("model.safetensors")
    }
}

/// The weights as they are made, and the reference that works on them.
struct Weights {
    tensors: Vec<(&'static str, Vec<usize>, Vec<f32>)>,
}

impl Weights {
    fn new() -> Self {
        let mut random = Random(2026);
        let shapes = [
            ("fc1.weight", vec![HIDDEN, INPUTS]),
            ("fc1.bias", vec![HIDDEN]),
            ("fc2.weight", vec![OUTPUTS, HIDDEN]),
            ("fc2.bias", vec![OUTPUTS]),
        ];
        let tensors = shapes.into_iter().map(|(name, shape)| {
            let values = random.floats(shape.iter().product());
            (name, shape, values)
        });
        Self { tensors: tensors.collect() }
    }

    /// The file: the length of the header in 8 bytes, the header as JSON, the tensors.
    fn safetensors(&self) -> Vec<u8> {
        let (mut json, mut data) = (Vec::new(), Vec::new());
        for (name, shape, values) in &self.tensors {
            let begin = data.len();
            data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            let end = data.len();
            json.push(format!(r#"{name:?}:{{"dtype":"F32","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#));
        }
        let mut json = format!("{{{}}}", json.join(","));
        // Spaces, so that the tensors begin at a multiple of 8.
        json.push_str(&" ".repeat(json.len().next_multiple_of(8) - json.len()));
        [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &data].concat()
    }

    /// What the model computes, in another order and in double precision.
    fn forward(&self, input: &[f32]) -> Vec<f32> {
        let [(_, _, weight1), (_, _, bias1), (_, _, weight2), (_, _, bias2)] = &self.tensors[..] else {
            unreachable!("there are four tensors")
        };
        let layer = |weight: &[f32], bias: &[f32], input: &[f64]| {
            let mut sums: Vec<f64> = bias.iter().map(|&bias| bias.into()).collect();
            for (column, x) in input.iter().enumerate() {
                for (row, sum) in sums.iter_mut().enumerate() {
                    *sum += f64::from(weight[row * input.len() + column]) * x;
                }
            }
            sums
        };
        let input: Vec<f64> = input.iter().map(|&x| x.into()).collect();
        let hidden: Vec<f64> = layer(weight1, bias1, &input).into_iter().map(|x| x.max(0.0)).collect();
        layer(weight2, bias2, &hidden).into_iter().map(|x| x as f32).collect()
    }
}

/// Numbers that are the same in every run (SplitMix64).
struct Random(u64);

impl Random {
    /// From -0.1 to 0.1.
    fn floats(&mut self, count: usize) -> Vec<f32> {
        let next = || {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32 * 0.2 - 0.1
        };
        std::iter::repeat_with(next).take(count).collect()
    }
}

/// The same on a GPU, through WebGPU: the shader reads the weights from the buffer that was verified.
#[cfg(feature = "wgpu")]
mod gpu {
    use tensorseal::DeviceKind;
    use tensorseal::device::wgpu::{DeviceMemory, Wgpu, api};
    use tensorseal::layout::Buffer;

    use super::{LoadedModel, Result, Verified};

    /// Each thread computes one output. `file` is the whole safetensors file, as it was signed: `weight` and `bias` are
    /// places in it, counted in floats. It is bound for reading alone.
    const LAYER: &str = "
        struct Layer { weight: u32, bias: u32, rows: u32, columns: u32, relu: u32 }
        @group(0) @binding(0) var<storage, read> file: array<f32>;
        @group(0) @binding(1) var<storage, read> input: array<f32>;
        @group(0) @binding(2) var<storage, read_write> output: array<f32>;
        @group(0) @binding(3) var<uniform> layer: Layer;

        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if (id.x >= layer.rows) { return; }
            var sum = file[layer.bias + id.x];
            for (var column = 0u; column < layer.columns; column++) {
                sum += file[layer.weight + id.x * layer.columns + column] * input[column];
            }
            output[id.x] = select(sum, max(sum, 0.0), layer.relu == 1u);
        }";

    /// The best adapter there is, also one in software: here it is about what happens, not how fast.
    pub(super) fn open() -> Result<Option<Wgpu>> {
        let Some(DeviceKind::Wgpu(Some(name))) = Wgpu::list().into_iter().map(|listed| listed.kind).next() else {
            println!("wgpu: there is no adapter, not even in software");
            return Ok(None);
        };
        Ok(Some(Wgpu::open(Some(&name))?))
    }

    pub(super) fn forward(gpu: &Wgpu, model: &Verified<LoadedModel<Wgpu>>, input: &[f32]) -> Result<Vec<f32>> {
        let hidden = layer(gpu, model, "fc1", input, true)?;
        layer(gpu, model, "fc2", &hidden, false)
    }

    fn layer(
        gpu: &Wgpu,
        model: &Verified<LoadedModel<Wgpu>>,
        name: &str,
        input: &[f32],
        relu: bool,
    ) -> Result<Vec<f32>> {
        let tensor = |part: &str| model.tensor(&format!("{name}.{part}")).ok_or("a tensor is missing");
        let (weight, bias) = (tensor("weight")?, tensor("bias")?);
        let memory: &DeviceMemory = weight.buffer();
        // Larger than one buffer may be, it would be several: then each tensor has to be looked for.
        let [file] = memory.buffers() else { return Err("a file of this size is one buffer".into()) };
        assert!(file.size() >= memory.size());
        let rows = bias.shape()[0] as u32;
        let words = [
            (weight.range().start / 4) as u32,
            (bias.range().start / 4) as u32,
            rows,
            input.len() as u32,
            relu.into(),
            0,
            0,
            0,
        ];
        let bytes = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();

        let (device, queue) = (gpu.device(), gpu.queue());
        let buffer = |size: u64, usage: api::BufferUsages| {
            device.create_buffer(&api::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        let (to, from) = (api::BufferUsages::COPY_DST, api::BufferUsages::COPY_SRC);
        let parameters = buffer(32, api::BufferUsages::UNIFORM | to);
        let inputs = buffer(input.len() as u64 * 4, api::BufferUsages::STORAGE | to);
        let outputs = buffer(u64::from(rows) * 4, api::BufferUsages::STORAGE | from);
        let read = buffer(u64::from(rows) * 4, api::BufferUsages::MAP_READ | to);
        queue.write_buffer(&parameters, 0, &bytes(&words));
        queue.write_buffer(&inputs, 0, &bytes(&input.iter().map(|x| x.to_bits()).collect::<Vec<_>>()));

        let source = api::ShaderSource::Wgsl(LAYER.into());
        let module = device.create_shader_module(api::ShaderModuleDescriptor { label: None, source });
        let pipeline = device.create_compute_pipeline(&api::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: api::PipelineCompilationOptions::default(),
            cache: None,
        });
        let bound = [file, &inputs, &outputs, &parameters];
        let entries = [0, 1, 2, 3]
            .map(|index| api::BindGroupEntry { binding: index as u32, resource: bound[index].as_entire_binding() });
        let group = device.create_bind_group(&api::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let mut encoder = device.create_command_encoder(&api::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&api::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(rows.div_ceil(64), 1, 1);
        drop(pass);
        encoder.copy_buffer_to_buffer(&outputs, 0, &read, 0, u64::from(rows) * 4);
        queue.submit([encoder.finish()]);
        read.map_async(api::MapMode::Read, .., drop);
        device.poll(api::PollType::wait_indefinitely())?;
        let view = read.get_mapped_range(..)?;
        Ok(view.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
    }
}
