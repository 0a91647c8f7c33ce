//! Whether an extension uses nothing of Python but what every version from 3.10 on promises.
//!
//! abi3audit knows those names for each version, in files for all three systems; here its answer
//! is read.

use anyhow::{Context, Result};
use serde_json::Value;

/// What breaks the promise, from abi3audit's report on one wheel.
pub(super) fn faults(report: &str) -> Result<Vec<String>> {
    let report: Value = serde_json::from_str(report).context("reading abi3audit's report")?;
    let wheels =
        report.get("specs").and_then(Value::as_object).into_iter().flat_map(|all| all.values());
    let extensions: Vec<&Value> =
        wheels.filter_map(|wheel| wheel.get("wheel")?.as_array()).flatten().collect();
    // Nothing looked at is nothing found.
    let [extension] = extensions[..] else {
        return Ok(vec![format!("abi3audit saw {} extensions, not one", extensions.len())]);
    };
    let says = |name: &str| extension.pointer(&format!("/result/{name}"));
    let holds = |name: &str| says(name).and_then(Value::as_bool) == Some(true);
    let mut faults = Vec::new();
    if !holds("is_abi3") {
        faults.push(format!("uses what is not stable: {}", shown(says("non_abi3_symbols"))));
    }
    if !holds("is_abi3_baseline_compatible") {
        faults.push(format!("uses what came later: {}", shown(says("future_abi3_objects"))));
    }
    if says("baseline").and_then(Value::as_str) != Some("3.10") {
        faults.push(format!("was held against Python {}", shown(says("baseline"))));
    }
    Ok(faults)
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "not known".to_owned(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As abi3audit 0.0.26 writes it.
    const GOOD: &str = r#"{"specs": {"memsweep-0.1.0-cp310-abi3-win_amd64.whl": {"kind": "wheel",
        "wheel": [{"name": "_memsweep.pyd", "result": {"is_abi3": true,
        "is_abi3_baseline_compatible": true, "baseline": "3.10", "computed": "3.10",
        "non_abi3_symbols": [], "future_abi3_objects": {}}}]}}}"#;

    #[test]
    fn a_private_symbol_is_a_fault() {
        assert_eq!(faults(GOOD).unwrap(), [""; 0]);
        let bad = GOOD.replace(r#""is_abi3": true"#, r#""is_abi3": false"#);
        let bad = bad.replace(r#"symbols": []"#, r#"symbols": ["_PyDict_NewPresized"]"#);
        let expected = r#"uses what is not stable: ["_PyDict_NewPresized"]"#;
        assert_eq!(faults(&bad).unwrap(), [expected]);
    }

    #[test]
    fn a_symbol_of_a_later_python_is_a_fault() {
        let bad = GOOD.replace(r#"compatible": true"#, r#"compatible": false"#);
        let bad = bad.replace(r#"objects": {}"#, r#"objects": {"PyType_GetName": "3.11"}"#);
        let expected = r#"uses what came later: {"PyType_GetName":"3.11"}"#;
        assert_eq!(faults(&bad).unwrap(), [expected]);
        let bad = GOOD.replace(r#""baseline": "3.10""#, r#""baseline": "3.12""#);
        assert_eq!(faults(&bad).unwrap(), [r#"was held against Python "3.12""#]);
    }

    #[test]
    fn nothing_looked_at_is_a_fault_and_no_report_is_an_error() {
        let none = r#"{"specs": {"a.whl": {"kind": "wheel", "wheel": []}}}"#;
        for nothing in [none, "{}"] {
            assert_eq!(faults(nothing).unwrap(), ["abi3audit saw 0 extensions, not one"]);
        }
        assert!(faults("").is_err());
    }
}
