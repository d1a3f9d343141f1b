use videosdgx_api::{Lora, openai::ModelKind};

use crate::{
    args::{Loras, Server},
    connect,
    failure::Failure,
    show,
};

pub(crate) async fn list(server: &Server, command: Loras) -> Result<(), Failure> {
    let client = connect::client(server)?;
    let model = connect::model(&client, command.model, ModelKind::Video).await?;
    let list = client.loras(&model).await?;
    if command.json {
        return show::json(&list);
    }
    for lora in &list.loras {
        println!("{}", line(lora));
    }
    if list.loras.is_empty() {
        eprintln!("{model} has no LoRAs");
    }
    Ok(())
}

fn line(lora: &Lora) -> String {
    let ranks: Vec<String> = lora.ranks.iter().map(u64::to_string).collect();
    let what = match &lora.error {
        Some(error) => format!("cannot be used: {error}"),
        None => format!("{} layers, rank {}", lora.layers, ranks.join(", ")),
    };
    let trigger = lora.trigger.as_ref().map_or(String::new(), |words| format!(" · {words}"));
    format!("{:<32} {:>7.1} MB  {what}{trigger}", lora.name, lora.bytes as f64 / 1e6)
}
