//! `inspect` of a model: its tensors, as people and programs see them.

use crate::build::{Gguf, array, json, safetensors, text};
use crate::room::Room;

/// A model in two files with an index, as transformers writes it.
fn sharded(room: &Room) {
    let mut map = Vec::new();
    for (file, layers) in [(1, 0..2), (2, 2..5)] {
        let mut tensors: Vec<(String, &str, &str, u64)> = Vec::new();
        if file == 1 {
            tensors.push(("model.embed_tokens.weight".into(), "BF16", "32,8", 512));
        }
        for layer in layers {
            tensors.push((format!("model.layers.{layer}.input_layernorm.weight"), "F32", "8", 32));
            tensors.extend(
                ["q", "k"].map(|of| (format!("model.layers.{layer}.self_attn.{of}_proj.weight"), "BF16", "8,8", 128)),
            );
            // The first layer is dense.
            if layer > 0 {
                tensors.extend((0..4).map(|expert| {
                    (format!("model.layers.{layer}.mlp.experts.{expert}.up_proj.weight"), "F8_E4M3", "16,8", 128)
                }));
            }
        }
        let mut at = 0;
        let placed: Vec<_> = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| {
                at += bytes;
                (&**name, *dtype, *shape, at - bytes, at)
            })
            .collect();
        let header = json(&placed).replacen('{', "{\"__metadata__\":{\"format\":\"pt\"},", 1);
        let name = format!("model-0000{file}-of-00002.safetensors");
        room.write(&format!("llm/{name}"), safetensors(&header, at as usize));
        map.extend(tensors.iter().map(|(tensor, ..)| format!("\"{tensor}\":\"{name}\"")));
    }
    let index = format!("{{\"metadata\":{{}},\"weight_map\":{{{}}}}}", map.join(","));
    room.write("llm/model.safetensors.index.json", index);
    room.write("llm/config.json", "{}\n");
}

fn gguf() -> Gguf {
    let mut of = Gguf::default()
        .string("general.architecture", "llama")
        .string("general.name", "A small\nmodel")
        .pair("llama.block_count", 4, 2_u32.to_le_bytes())
        .pair("tokenizer.ggml.tokens", 9, array(8, &[text("a"), text([0xff])]));
    let mut at = 0;
    for layer in 0..2 {
        for (name, dimensions, kind, bytes) in [("attn_q", &[256, 4][..], 12, 576), ("attn_norm", &[256], 0, 1024)] {
            of = of.tensor(format!("blk.{layer}.{name}.weight"), dimensions, kind, at);
            at += bytes;
        }
    }
    of.data(at as usize)
}

#[test]
fn people_see_tables() {
    let room = Room::new();
    sharded(&room);
    room.write("small.gguf", gguf().bytes());
    let mut transcript = room.transcript(&["inspect llm", "inspect small.gguf", "inspect small.gguf --tensors"]);
    // What is wrong is named, and the rest is shown.
    room.write("llm/broken.safetensors", safetensors(&json(&[("w", "F32", "8", 0, 32)]), 31));
    room.write("llm/old.gguf", Gguf { version: 1, ..gguf() }.bytes());
    room.write("llm/optimizer.pt", b"\x80\x02}q\0.");
    room.write("llm/model-00003-of-00002.safetensors", safetensors("{}", 0));
    std::fs::remove_file(room.path("llm/model-00002-of-00002.safetensors")).unwrap();
    transcript += &room.transcript(&["inspect llm"]);
    room.assert_snapshot("inspect", transcript);
}

#[test]
fn programs_see_all() {
    let room = Room::new();
    sharded(&room);
    room.write("llm/small.gguf", gguf().bytes());
    let json = room.run("inspect llm --json").ended(0).json();
    assert_eq!((&json["verdict"], &json["exit_code"]), (&"none".into(), &0.into()));
    let file = |json: &serde_json::Value, name: &str| {
        json["files"].as_array().unwrap().iter().find(|file| file["name"] == name).unwrap().clone()
    };
    let first = file(&json, "model-00001-of-00002.safetensors");
    assert_eq!((&first["format"], &first["metadata"]["format"]), (&"safetensors".into(), &"pt".into()));
    let tensors = first["tensors"].as_array().unwrap();
    assert_eq!((tensors.len(), &first["total"]["tensors"]), (11, &11.into()));
    let header = first["header_bytes"].as_u64().unwrap();
    assert_eq!(
        tensors[1],
        serde_json::json!({
            "name": "model.layers.0.input_layernorm.weight", "dtype": "F32", "shape": [8], "offset": header + 512, "bytes": 32
        })
    );
    assert_eq!(file(&json, "small.gguf")["metadata"]["llama.block_count"], "2");
    assert_eq!(file(&json, "config.json").as_object().unwrap().len(), 2);
    let sum =
        |field: &str| json["dtypes"].as_array().unwrap().iter().map(|of| of[field].as_u64().unwrap()).sum::<u64>();
    for field in ["tensors", "parameters", "bytes"] {
        assert_eq!(json["total"][field], sum(field), "{field}");
    }
    assert_eq!(json["total"]["tensors"], 32 + 4);

    room.write("llm/broken.safetensors", "no");
    room.write("llm/optimizer.pkl", "x");
    std::fs::remove_file(room.path("llm/model-00002-of-00002.safetensors")).unwrap();
    let json = room.run("inspect llm --json").ended(3).json();
    assert_eq!((&json["verdict"], &json["error"]["kind"]), (&"none".into(), &"header".into()));
    assert!(file(&json, "broken.safetensors")["error"].as_str().unwrap().contains("needs 8 bytes"));
    assert_eq!(file(&json, "model-00001-of-00002.safetensors"), first, "the rest is still told");
    assert_eq!(json["faults"].as_array().unwrap().len(), 2);
    assert!(json["faults"][1].as_str().unwrap().contains("names the file \"model-00002-of-00002.safetensors\""));
    assert_eq!(json["pickled"], serde_json::json!(["optimizer.pkl"]));
}

/// The warning comes with every verb, and changes no verdict.
#[test]
fn pickled_weights_are_warned_of() {
    let room = Room::new();
    room.write("model/pytorch_model.bin", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.");
    room.run("keygen --out key.pem").ended(0);
    for line in [
        "sign key model --private-key key.pem",
        "verify key model --public-key key.pub --signature model.sig",
        "inspect model",
    ] {
        let ran = room.run(line).ended(0);
        let warnings: Vec<_> = ran.stderr.lines().filter(|line| line.starts_with("warning:")).collect();
        let [warning] = warnings[..] else { panic!("{line}: {}", ran.stderr) };
        for words in
            ["\"pytorch_model.bin\" is pickled", "run the code in it", "not that it is harmless", "prefer safetensors"]
        {
            assert!(warning.contains(words), "{line}: {warning}");
        }
        let notes = room.run(&format!("{line} --json")).ended(0).json()["notes"].clone();
        assert!(notes[0].as_str().unwrap().contains("pytorch_model.bin"), "{line}: {notes}");
    }
}
