//! Models of well-known families as tables: which tensors they have, of which type and shape, and where a safetensors file
//! puts them. Not their weights.
//!
//! Everything follows from the constants of each `config.json` at its publisher; tests compare what comes out with the
//! published numbers of parameters and bytes. Published models lie in several files, each with a header of its own; here
//! a model is one file.

use std::fmt::Write as _;

use crate::format::Dtype;

/// A family of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Family {
    /// A LoRA adapter of rank 16 for all linear layers of Llama 3.1 8B, as PEFT writes it (in F32).
    Lora,
    /// Qwen2.5 7B (BF16).
    Qwen25With7B,
    /// Llama 3.1 8B (BF16).
    Llama31With8B,
    /// Llama 3.1 70B (BF16).
    Llama31With70B,
    /// DeepSeek-V3: 671B in mixed experts, FP8 with a scale for each block of 128 by 128, and its module for the next token.
    DeepSeekV3,
}

/// A tensor of a model, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name, as the publisher's.
    pub name: String,
    /// The type of its elements, of whole bytes each.
    pub dtype: Dtype,
    /// Its shape, outermost first.
    pub shape: Vec<u64>,
}

impl Tensor {
    /// Its elements.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.elements() * self.dtype.block_bytes()
    }
}

/// A model of a family, whole or as much of it as fits somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shaped {
    /// The family.
    pub family: Family,
    /// Layers that are there.
    pub layers: u64,
    /// Experts that each of its layers of experts has; 0 for a family without.
    pub experts: u64,
    /// By which every dimension of every tensor was divided: 1 for the real tensors.
    pub narrowed_by: u64,
    /// Its tensors, in the order in which a safetensors file has them: wide elements first, then by name.
    pub tensors: Vec<Tensor>,
    /// What stands before them in that file: the length of the JSON, and the JSON, padded to a multiple of 8 bytes.
    pub header: Vec<u8>,
}

impl Shaped {
    /// The family, and what was left out: `DeepSeek-V3, 2 of 61 layers, 64 of 256 experts`.
    #[must_use]
    pub fn name(&self) -> String {
        let plan = self.family.plan();
        let mut name = self.family.name().to_owned();
        if self.layers < plan.layers {
            let _ = write!(name, ", {} of {} layers", self.layers, plan.layers);
        }
        if let Some(moe) = plan.moe().filter(|moe| self.experts < moe.experts) {
            let _ = write!(name, ", {} of {} experts", self.experts, moe.experts);
        }
        if self.narrowed_by > 1 {
            let _ = write!(name, ", dimensions by {}", self.narrowed_by);
        }
        name
    }

    /// Bytes of all tensors.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(Tensor::bytes).sum()
    }

    /// Bytes of the file: the header and the tensors.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.header.len() as u64 + self.bytes()
    }

    /// Of each tensor, in order: where it begins in the file, and its bytes.
    pub fn places(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.tensors.iter().scan(self.header.len() as u64, |at, tensor| {
            let place = (*at, tensor.bytes());
            *at += place.1;
            Some(place)
        })
    }
}

impl Family {
    /// All of them, the smallest first.
    pub const ALL: [Self; 5] =
        [Self::Lora, Self::Qwen25With7B, Self::Llama31With8B, Self::Llama31With70B, Self::DeepSeekV3];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lora => "LoRA of rank 16 for Llama 3.1 8B",
            Self::Qwen25With7B => "Qwen2.5 7B",
            Self::Llama31With8B => "Llama 3.1 8B",
            Self::Llama31With70B => "Llama 3.1 70B",
            Self::DeepSeekV3 => "DeepSeek-V3",
        }
    }

    /// All of it.
    #[must_use]
    pub fn whole(self) -> Shaped {
        let plan = self.plan();
        self.shaped(plan.layers, plan.moe().map_or(0, |moe| moe.experts), 1)
    }

    /// As much of it as a file of `bytes` bytes can hold: all, or fewer layers, or one layer with fewer experts; never a
    /// smaller tensor. None if not even that fits: the embeddings and a layer.
    #[must_use]
    pub fn scaled(self, bytes: u64) -> Option<Shaped> {
        let plan = self.plan();
        let (experts, least) = plan.moe().map_or((0, 0), |moe| (moe.experts, moe.used));
        let whole = |layers| self.shaped(layers, experts, 1);
        let fits = |layers| whole(layers).file_bytes() <= bytes;
        // The most layers that fit: twice as many while they do, then by halves. A file grows with each.
        let (mut fit, mut over) = (0, 1);
        while over <= plan.layers && fits(over) {
            (fit, over) = (over, over * 2);
        }
        over = over.min(plan.layers + 1);
        while fit + 1 < over {
            let layers = fit.midpoint(over);
            if fits(layers) { fit = layers } else { over = layers }
        }
        if fit > 0 {
            return Some(whole(fit));
        }
        let halves = std::iter::successors(Some(experts / 2), |experts| Some(experts / 2));
        halves
            .take_while(|&experts| experts > 0 && experts >= least)
            .map(|experts| self.shaped(1, experts, 1))
            .find(|shaped| shaped.file_bytes() <= bytes)
    }

    /// The least of it that [`Family::scaled`] gives: the ends, and one layer with as many experts as a token has.
    #[must_use]
    pub fn least(self) -> Shaped {
        self.shaped(1, self.plan().moe().map_or(0, |moe| moe.used), 1)
    }

    /// The same for files that are smaller than any part of the real model: if [`Family::scaled`] gives nothing, all layers
    /// and all experts, with every dimension of every tensor divided by a power of two. As many tensors, and sizes in
    /// about the same proportion. None if even the header of that is longer.
    #[must_use]
    pub fn within(self, bytes: u64) -> Option<Shaped> {
        let plan = self.plan();
        let experts = plan.moe().map_or(0, |moe| moe.experts);
        let narrowed = |by: &u32| self.shaped(plan.layers, experts, 1 << by);
        self.scaled(bytes).or_else(|| (1..=17).map(|by| narrowed(&by)).find(|shaped| shaped.file_bytes() <= bytes))
    }

    fn shaped(self, layers: u64, experts: u64, narrowed_by: u64) -> Shaped {
        let mut tensors = self.plan().tensors(layers, experts);
        for tensor in &mut tensors {
            tensor.shape.iter_mut().for_each(|dimension| *dimension = dimension.div_ceil(narrowed_by));
        }
        tensors.sort_by(|a, b| b.dtype.block_bytes().cmp(&a.dtype.block_bytes()).then_with(|| a.name.cmp(&b.name)));
        let header = header(&tensors);
        Shaped { family: self, layers, experts, narrowed_by, tensors, header }
    }

    /// The constants of its `config.json`.
    const fn plan(self) -> Plan {
        let llama = Plan {
            hidden: 4096,
            layers: 32,
            heads: 32,
            kv_heads: 8,
            mlp: 14_336,
            vocabulary: 128_256,
            kind: Kind::Plain,
        };
        match self {
            // meta-llama/Llama-3.1-8B, with PEFT's `r` 16 and all seven `target_modules`.
            Self::Lora => Plan { kind: Kind::Lora { rank: 16 }, ..llama },
            // Qwen/Qwen2.5-7B.
            Self::Qwen25With7B => Plan {
                hidden: 3584,
                layers: 28,
                heads: 28,
                kv_heads: 4,
                mlp: 18_944,
                vocabulary: 152_064,
                kind: Kind::Biased,
            },
            // meta-llama/Llama-3.1-8B: hidden_size, num_hidden_layers, num_attention_heads, num_key_value_heads,
            // intermediate_size, vocab_size.
            Self::Llama31With8B => llama,
            // meta-llama/Llama-3.1-70B.
            Self::Llama31With70B => Plan { hidden: 8192, layers: 80, heads: 64, mlp: 28_672, ..llama },
            // deepseek-ai/DeepSeek-V3.
            Self::DeepSeekV3 => Plan {
                hidden: 7168,
                layers: 61,
                heads: 128,
                kv_heads: 128,
                mlp: 18_432,
                vocabulary: 129_280,
                kind: Kind::Moe(Moe {
                    experts: 256,
                    used: 8,
                    shared: 1,
                    expert: 2048,
                    dense: 3,
                    next: 1,
                    q_rank: 1536,
                    kv_rank: 512,
                    nope: 128,
                    rope: 64,
                    value: 128,
                }),
            },
        }
    }
}

/// What a family is made of, under the names of `config.json`.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// `hidden_size`.
    hidden: u64,
    /// `num_hidden_layers`.
    layers: u64,
    /// `num_attention_heads`.
    heads: u64,
    /// `num_key_value_heads`.
    kv_heads: u64,
    /// `intermediate_size`.
    mlp: u64,
    /// `vocab_size`.
    vocabulary: u64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Plain,
    /// With biases where queries, keys and values are projected.
    Biased,
    /// An adapter for such a model.
    Lora {
        /// `r`.
        rank: u64,
    },
    Moe(Moe),
}

/// Mixed experts and latent attention, as DeepSeek-V3 has them.
#[derive(Debug, Clone, Copy)]
struct Moe {
    /// `n_routed_experts`.
    experts: u64,
    /// `num_experts_per_tok`.
    used: u64,
    /// `n_shared_experts`.
    shared: u64,
    /// `moe_intermediate_size`.
    expert: u64,
    /// `first_k_dense_replace`.
    dense: u64,
    /// `num_nextn_predict_layers`.
    next: u64,
    /// `q_lora_rank`.
    q_rank: u64,
    /// `kv_lora_rank`.
    kv_rank: u64,
    /// `qk_nope_head_dim`.
    nope: u64,
    /// `qk_rope_head_dim`.
    rope: u64,
    /// `v_head_dim`.
    value: u64,
}

impl Plan {
    const fn moe(&self) -> Option<&Moe> {
        if let Kind::Moe(moe) = &self.kind { Some(moe) } else { None }
    }

    fn tensors(&self, layers: u64, experts: u64) -> Vec<Tensor> {
        let mut list = List::default();
        match &self.kind {
            Kind::Plain | Kind::Biased => {
                (0..layers).for_each(|layer| self.layer(&mut list, layer));
                self.ends(&mut list);
            }
            Kind::Lora { rank } => (0..layers).for_each(|layer| self.adapters(&mut list, layer, *rank)),
            Kind::Moe(moe) => {
                // Of few layers, one is dense as soon as there are two.
                let dense = if layers == self.layers {
                    moe.dense
                } else {
                    (moe.dense * layers / self.layers).max(layers.min(2) / 2)
                };
                for layer in 0..layers {
                    self.mixed(&mut list, moe, layer, if layer < dense { 0 } else { experts });
                }
                // What predicts one token more comes behind all layers, and has the ends again.
                for layer in layers..layers + if layers == self.layers { moe.next } else { 0 } {
                    self.mixed(&mut list, moe, layer, experts);
                    let at = |name: &str| format!("model.layers.{layer}.{name}.weight");
                    list.bf16(at("embed_tokens"), [self.vocabulary, self.hidden]);
                    list.bf16(at("shared_head.head"), [self.vocabulary, self.hidden]);
                    list.bf16(at("eh_proj"), [self.hidden, 2 * self.hidden]);
                    for name in ["enorm", "hnorm", "shared_head.norm"] {
                        list.bf16(at(name), [self.hidden]);
                    }
                }
                self.ends(&mut list);
            }
        }
        list.0
    }

    /// Embeddings, the last norm, the head.
    fn ends(&self, list: &mut List) {
        list.bf16("model.embed_tokens.weight".to_owned(), [self.vocabulary, self.hidden]);
        list.bf16("lm_head.weight".to_owned(), [self.vocabulary, self.hidden]);
        list.bf16("model.norm.weight".to_owned(), [self.hidden]);
    }

    fn norms(&self, list: &mut List, layer: u64) {
        for name in ["input_layernorm", "post_attention_layernorm"] {
            list.bf16(format!("model.layers.{layer}.{name}.weight"), [self.hidden]);
        }
    }

    /// Of a plain layer: what is projected, to how many, from how many.
    const fn linear(&self) -> [(&'static str, u64, u64); 7] {
        let keys = self.hidden / self.heads * self.kv_heads;
        [
            ("self_attn.q_proj", self.hidden, self.hidden),
            ("self_attn.k_proj", keys, self.hidden),
            ("self_attn.v_proj", keys, self.hidden),
            ("self_attn.o_proj", self.hidden, self.hidden),
            ("mlp.gate_proj", self.mlp, self.hidden),
            ("mlp.up_proj", self.mlp, self.hidden),
            ("mlp.down_proj", self.hidden, self.mlp),
        ]
    }

    fn layer(&self, list: &mut List, layer: u64) {
        let linear = self.linear();
        for (name, to, from) in linear {
            list.bf16(format!("model.layers.{layer}.{name}.weight"), [to, from]);
        }
        if matches!(self.kind, Kind::Biased) {
            for (name, to, _) in linear.into_iter().take(3) {
                list.bf16(format!("model.layers.{layer}.{name}.bias"), [to]);
            }
        }
        self.norms(list, layer);
    }

    fn adapters(&self, list: &mut List, layer: u64, rank: u64) {
        for (name, to, from) in self.linear() {
            let at = |side: &str| format!("base_model.model.model.layers.{layer}.{name}.lora_{side}.weight");
            list.push(at("A"), "F32", [rank, from]);
            list.push(at("B"), "F32", [to, rank]);
        }
    }

    /// A layer with so many experts; none: a dense one.
    fn mixed(&self, list: &mut List, moe: &Moe, layer: u64, experts: u64) {
        let at = |name: &str| format!("model.layers.{layer}.{name}");
        for (name, to, from) in [
            ("q_a_proj", moe.q_rank, self.hidden),
            ("q_b_proj", self.heads * (moe.nope + moe.rope), moe.q_rank),
            ("kv_a_proj_with_mqa", moe.kv_rank + moe.rope, self.hidden),
            ("kv_b_proj", self.heads * (moe.nope + moe.value), moe.kv_rank),
            ("o_proj", self.hidden, self.heads * moe.value),
        ] {
            list.fp8(&at(&format!("self_attn.{name}")), to, from);
        }
        list.bf16(at("self_attn.q_a_layernorm.weight"), [moe.q_rank]);
        list.bf16(at("self_attn.kv_a_layernorm.weight"), [moe.kv_rank]);
        self.norms(list, layer);
        let mut mlp = |of: &str, wide: u64| {
            list.fp8(&at(&format!("{of}.gate_proj")), wide, self.hidden);
            list.fp8(&at(&format!("{of}.up_proj")), wide, self.hidden);
            list.fp8(&at(&format!("{of}.down_proj")), self.hidden, wide);
        };
        if experts == 0 {
            mlp("mlp", self.mlp);
            return;
        }
        (0..experts).for_each(|expert| mlp(&format!("mlp.experts.{expert}"), moe.expert));
        mlp("mlp.shared_experts", moe.expert * moe.shared);
        list.bf16(at("mlp.gate.weight"), [experts, self.hidden]);
        list.push(at("mlp.gate.e_score_correction_bias"), "F32", [experts]);
    }
}

#[derive(Default)]
struct List(Vec<Tensor>);

impl List {
    fn push<const N: usize>(&mut self, name: String, dtype: &'static str, shape: [u64; N]) {
        // All names that are passed here stand in this file; a test has each.
        if let Some(dtype) = Dtype::from_safetensors(dtype) {
            self.0.push(Tensor { name, dtype, shape: shape.to_vec() });
        }
    }

    fn bf16<const N: usize>(&mut self, name: String, shape: [u64; N]) {
        self.push(name, "BF16", shape);
    }

    /// A matrix in FP8, and a scale for each of its blocks.
    fn fp8(&mut self, name: &str, to: u64, from: u64) {
        self.push(format!("{name}.weight"), "F8_E4M3", [to, from]);
        self.push(format!("{name}.weight_scale_inv"), "F32", [to.div_ceil(128), from.div_ceil(128)]);
    }
}

/// The header of a safetensors file with these tensors, one after the other.
pub(super) fn header(tensors: &[Tensor]) -> Vec<u8> {
    let mut text = r#"{"__metadata__":{"format":"pt"}"#.to_owned();
    let mut at = 0;
    for tensor in tensors {
        let end = at + tensor.bytes();
        let (name, dtype) = (&tensor.name, tensor.dtype.name());
        let shape = tensor.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let _ = write!(text, r#","{name}":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{at},{end}]}}"#);
        at = end;
    }
    text.push('}');
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

#[cfg(test)]
mod tests;
