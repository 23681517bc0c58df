//! `meshc explain-code`: the page of a diagnostic.

use mesh_compiler::diag::Code;
use serde_json::json;

use crate::args::ExplainCode;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::render::sarif::summary;
use crate::wrap::reflow;

/// Prints one page, or the list of codes.
pub fn run(output: &Output, args: &ExplainCode) -> Result<Exit, Failure> {
    let Some(word) = &args.code else {
        let codes: Vec<_> = Code::ALL.iter().map(|&code| (code, summary(code))).collect();
        output.answer(
            &json!({ "codes": codes.iter().map(|(code, summary)| json!({
                "code": code.word(), "severity": code.severity().to_string(), "summary": summary,
            })).collect::<Vec<_>>() }),
            || codes.iter().map(|(code, summary)| format!("{:<20}  {summary}\n", code.word())).collect(),
        );
        return Ok(Exit::Done);
    };
    let code = Code::from_word(word).ok_or_else(|| {
        let words = Code::ALL.iter().map(|code| code.word());
        let near = mesh_compiler::diag::did_you_mean(word, words);
        let help = near.map_or_else(
            || "`meshc explain-code` without a code lists all of them".into(),
            |near| format!("did you mean `{near}`?"),
        );
        Failure::usage(format!("there is no diagnostic `{word}`")).help(help)
    })?;
    output.answer(
        &json!({ "code": code.word(), "severity": code.severity().to_string(), "page": code.page() }),
        || if output.columns.is_some() { reflow(code.page()) } else { code.page().to_owned() },
    );
    Ok(Exit::Done)
}
