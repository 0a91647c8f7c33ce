//! PCI addresses in one form, so that those of drivers and of torch can be compared.

/// `0000:01:00.0`: lower case, with a domain of at least four digits. `None` if it is not a PCI
/// address.
///
/// Drivers write the domain with four or eight digits, in upper or lower case, or leave it out.
pub(crate) fn normalize(address: &str) -> Option<String> {
    let (rest, function) = address.rsplit_once('.')?;
    let (rest, device) = rest.rsplit_once(':')?;
    let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
    let (domain, bus) = (hex(domain, u32::MAX)?, hex(bus, 0xff)?);
    let (device, function) = (hex(device, 0x1f)?, hex(function, 7)?);
    Some(format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}

fn hex(digits: &str, largest: u32) -> Option<u32> {
    // `from_str_radix` would accept a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, 16).ok().filter(|value| *value <= largest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_becomes_one() {
        for (written, address) in [
            ("00000000:01:00.0", Some("0000:01:00.0")),
            ("0000:0A:1F.7", Some("0000:0a:1f.7")),
            ("c1:00.0", Some("0000:c1:00.0")),
            ("00010000:01:00.0", Some("10000:01:00.0")),
            ("0000:01:20.0", None),
            ("0000:100:00.0", None),
            ("0000:01:00.8", None),
            ("0000:01:00", None),
            ("0000:+1:00.0", None),
            (":01:00.0", None),
            ("card0", None),
            ("", None),
        ] {
            assert_eq!(normalize(written).as_deref(), address, "{written}");
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_is_stable(text in "[0-9a-fA-F:.]{0,20}") {
            if let Some(once) = normalize(&text) {
                prop_assert_eq!(normalize(&once), Some(once));
            }
        }

        #[test]
        fn any_text_is_taken(text: String) {
            let _ = normalize(&text);
        }
    }
}
