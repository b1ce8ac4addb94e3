//! What there is most of, as tables for people.

use super::{Look, Page, Style, size, widths};
use crate::{
    entry::Timestamp,
    error::counted,
    inspect::top::{DEVICES, Device, DeviceKind, Part, Payload, Top},
};

impl Top {
    /// A page about it.
    pub fn text(&self, look: Look) -> String {
        let mut page = Page { look, start: Timestamp::default(), text: String::new() };
        let frames = counted(self.frames, "frame");
        page.value("content", Style::Plain, &format!("{frames}, {} altogether", size(self.bytes)));
        page.blank();
        page.weighed_payloads(&self.payloads);
        page.blank();
        page.devices(self);
        page.text
    }
}

fn percent(percent: f64) -> String {
    format!("{percent:.1} %")
}

impl Page {
    fn weighed_payloads(&mut self, payloads: &[Payload]) {
        self.line(0, Style::Title, "payloads, and what they are made of");
        let header = ["bytes", "share", "frames", "elements", "payload"].map(str::to_owned);
        let mut rows = vec![(Style::Faint, header.to_vec())];
        for Payload { payload, frames, bytes, percent: share, parts } in payloads {
            let row = [size(*bytes), percent(*share), frames.to_string(), "-".to_owned()];
            rows.push((Style::Title, [&row[..], std::slice::from_ref(payload)].concat()));
            rows.extend(parts.iter().map(
                |Part { field, frames, elements, bytes, percent: share }| {
                    let row =
                        [size(*bytes), percent(*share), frames.to_string(), elements.to_string()];
                    (Style::Plain, [&row[..], &[format!("  {field}")]].concat())
                },
            ));
        }
        self.table(&rows, &[0, 1, 2, 3]);
    }

    fn devices(&mut self, top: &Top) {
        let count = counted(top.known_devices as u64, "device");
        let title = format!("the noisiest of {count}, by the size of what names them");
        self.line(0, Style::Title, &title);
        let header = ["bytes", "share", "frames", "named by", "device"].map(str::to_owned);
        let mut rows = vec![(Style::Faint, header.to_vec())];
        rows.extend(top.devices.iter().map(|device| {
            let Device { kind, name, frames, bytes, percent: share } = device;
            let kind = match kind {
                DeviceKind::Serial => "serial",
                DeviceKind::Mac => "mac",
            };
            let row = [size(*bytes), percent(*share), frames.to_string(), kind.to_owned()];
            (Style::Plain, [&row[..], std::slice::from_ref(name)].concat())
        }));
        self.table(&rows, &[0, 1, 2]);
        if top.uncounted_bytes > 0 {
            let most = size(top.uncounted_bytes);
            let words = format!(
                "of more than {DEVICES} devices the lighter ones were forgotten: each may have {most} more"
            );
            self.line(0, Style::Alarm, &words);
        }
    }

    fn table(&mut self, rows: &[(Style, Vec<String>)], right: &[usize]) {
        let cells: Vec<_> = rows.iter().map(|(_, row)| row.clone()).collect();
        let widths = widths(&cells);
        for (style, row) in rows {
            self.row(row, &widths, right, *style);
        }
    }
}
