//! Descriptors as the text that they were compiled from, but for comments and the order of what does not
//! depend on each other. Source of the rules: <https://protobuf.dev/reference/protobuf/proto2-spec/>.

use std::fmt::Write;

use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, ExtensionDescriptor, FileDescriptor, Kind,
    MessageDescriptor, ServiceDescriptor, Syntax, Value,
    prost_types::{
        FieldDescriptorProto,
        field_descriptor_proto::{Label, Type},
    },
};

/// The text of a file.
pub(super) fn text(file: &FileDescriptor) -> String {
    let mut text = Text {
        pool: file.parent_pool().clone(),
        package: file.package_name().to_owned(),
        is_proto3: file.syntax() == Syntax::Proto3,
        indent: 0,
        out: String::new(),
    };
    text.file(file);
    text.out
}

struct Text {
    pool: DescriptorPool,
    package: String,
    is_proto3: bool,
    indent: usize,
    out: String,
}

/// Where a field stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Message,
    Oneof,
    Extend,
}

impl Text {
    fn file(&mut self, file: &FileDescriptor) {
        let proto = file.file_descriptor_proto();
        self.line(&format!("syntax = \"{}\";", if self.is_proto3 { "proto3" } else { "proto2" }));
        if !self.package.is_empty() {
            self.blank();
            self.line(&format!("package {};", self.package));
        }
        for (index, name) in proto.dependency.iter().enumerate() {
            if index == 0 {
                self.blank();
            }
            let is_in = |list: &[i32]| list.contains(&(index as i32));
            let how = match () {
                () if is_in(&proto.public_dependency) => "public ",
                () if is_in(&proto.weak_dependency) => "weak ",
                () => "",
            };
            self.line(&format!("import {how}{};", quoted(name)));
        }
        let options = options(&file.options());
        if !options.is_empty() {
            self.blank();
        }
        self.options(options);
        for of in file.enums() {
            self.blank();
            self.enumeration(&of);
        }
        let groups: Vec<_> = file.extensions().filter_map(|of| group_of(&of)).collect();
        for of in file.messages().filter(|of| !groups.contains(of)) {
            self.blank();
            self.message("message", &of);
        }
        if !proto.extension.is_empty() {
            self.blank();
        }
        self.extensions(None, &proto.extension);
        for service in file.services() {
            self.blank();
            self.service(&service);
        }
    }

    fn message(&mut self, head: &str, of: &MessageDescriptor) {
        self.open(&format!("{head} {}", of.name()));
        self.body(of);
        self.close();
    }

    fn body(&mut self, of: &MessageDescriptor) {
        let proto = of.descriptor_proto();
        self.options(options(&of.options()));
        for of in of.child_enums() {
            self.enumeration(&of);
        }
        let groups: Vec<_> = of.child_extensions().filter_map(|of| group_of(&of)).collect();
        let messages = of.child_messages().filter(|of| !groups.contains(of));
        let mut nested = Nested { of: messages.collect(), next: 0 };
        self.nested(of, &mut nested);
        let mut oneofs = vec![false; proto.oneof_decl.len()];
        for field in &proto.field {
            let oneof = field.oneof_index.filter(|_| !field.proto3_optional());
            let Some(index) = oneof.and_then(|index| usize::try_from(index).ok()) else {
                self.field(of, field, Place::Message, &mut nested);
                continue;
            };
            // All fields of a oneof stand together.
            if oneofs.get(index).copied().unwrap_or(true) {
                continue;
            }
            oneofs[index] = true;
            self.open(&format!("oneof {}", proto.oneof_decl[index].name()));
            let declared = of.oneofs().nth(index);
            self.options(declared.map(|oneof| options(&oneof.options())).unwrap_or_default());
            for field in proto.field.iter().filter(|field| field.oneof_index == oneof) {
                self.field(of, field, Place::Oneof, &mut nested);
            }
            self.close();
        }
        self.extensions(Some(of), &proto.extension);
        for range in &proto.extension_range {
            let range = range_text(range.start(), range.end().saturating_sub(1), HIGHEST_FIELD);
            self.line(&format!("extensions {range};"));
        }
        for range in &proto.reserved_range {
            let range = range_text(range.start(), range.end().saturating_sub(1), HIGHEST_FIELD);
            self.line(&format!("reserved {range};"));
        }
        for name in &proto.reserved_name {
            self.line(&format!("reserved {};", quoted(name)));
        }
    }

    /// Messages in another one, up to one that a field declares. Their order stays.
    fn nested(&mut self, parent: &MessageDescriptor, nested: &mut Nested) {
        while let Some(of) = nested.of.get(nested.next).cloned() {
            if of.is_map_entry() || is_group(parent, &of) {
                break;
            }
            nested.next += 1;
            self.message("message", &of);
        }
    }

    fn field(
        &mut self,
        of: &MessageDescriptor,
        field: &FieldDescriptorProto,
        place: Place,
        nested: &mut Nested,
    ) {
        let declared = u32::try_from(field.number()).ok().and_then(|number| of.get_field(number));
        let Some(declared) = declared else { return };
        let options = field_options(field, &declared.options());
        let kind = declared.kind();
        match kind {
            Kind::Message(entry) if entry.is_map_entry() => {
                let key = self.type_name(Some(of), &entry.map_entry_key_field().kind());
                let value = self.type_name(Some(of), &entry.map_entry_value_field().kind());
                let (name, number) = (field.name(), field.number());
                self.line(&format!("map<{key}, {value}> {name} = {number}{options};"));
                nested.next += 1;
                self.nested(of, nested);
            }
            Kind::Message(group) if declared.is_group() => {
                self.group(field, place, &group, &options);
                nested.next += 1;
                self.nested(of, nested);
            }
            kind => self.plain_field(Some(of), field, place, &kind, &options),
        }
    }

    fn group(
        &mut self,
        field: &FieldDescriptorProto,
        place: Place,
        group: &MessageDescriptor,
        options: &str,
    ) {
        let label = self.label(field, place);
        self.open(&format!("{label}group {} = {}{options}", group.name(), field.number()));
        self.body(group);
        self.close();
    }

    fn plain_field(
        &mut self,
        scope: Option<&MessageDescriptor>,
        field: &FieldDescriptorProto,
        place: Place,
        kind: &Kind,
        options: &str,
    ) {
        let (label, of) = (self.label(field, place), self.type_name(scope, kind));
        self.line(&format!("{label}{of} {} = {}{options};", field.name(), field.number()));
    }

    fn label(&self, field: &FieldDescriptorProto, place: Place) -> &'static str {
        match field.label() {
            _ if place == Place::Oneof => "",
            Label::Repeated => "repeated ",
            Label::Required => "required ",
            Label::Optional if self.is_proto3 && !field.proto3_optional() => "",
            Label::Optional => "optional ",
        }
    }

    fn extensions(&mut self, scope: Option<&MessageDescriptor>, list: &[FieldDescriptorProto]) {
        let scope_name = scope.map_or(&*self.package, |scope| scope.full_name()).to_owned();
        for group in list.chunk_by(|a, b| a.extendee == b.extendee) {
            let find = |field: &FieldDescriptorProto| {
                let name = match &*scope_name {
                    "" => field.name().to_owned(),
                    scope => format!("{scope}.{}", field.name()),
                };
                self.pool.get_extension_by_name(&name)
            };
            let declared: Vec<_> = group.iter().map(find).collect();
            let Some(of) = declared.iter().flatten().next() else { continue };
            let of = self.reference(scope, of.containing_message().full_name());
            self.open(&format!("extend {of}"));
            for (field, declared) in group.iter().zip(&declared) {
                let Some(declared) = declared else { continue };
                let options = field_options(field, &declared.options());
                match declared.kind() {
                    Kind::Message(group) if declared.is_group() => {
                        self.group(field, Place::Extend, &group, &options);
                    }
                    kind => self.plain_field(scope, field, Place::Extend, &kind, &options),
                }
            }
            self.close();
        }
    }

    fn enumeration(&mut self, of: &EnumDescriptor) {
        let proto = of.enum_descriptor_proto();
        self.open(&format!("enum {}", of.name()));
        self.options(options(&of.options()));
        for value in &proto.value {
            let declared = of.get_value_by_name(value.name());
            let options = declared.map(|value| options(&value.options())).unwrap_or_default();
            let options = bracketed(&options);
            self.line(&format!("{} = {}{options};", value.name(), value.number()));
        }
        for range in &proto.reserved_range {
            self.line(&format!("reserved {};", range_text(range.start(), range.end(), i32::MAX)));
        }
        for name in &proto.reserved_name {
            self.line(&format!("reserved {};", quoted(name)));
        }
        self.close();
    }

    fn service(&mut self, service: &ServiceDescriptor) {
        self.open(&format!("service {}", service.name()));
        self.options(options(&service.options()));
        for method in service.methods() {
            let stream = |is_stream: bool| if is_stream { "stream " } else { "" };
            let head = format!(
                "rpc {}({}.{}) returns ({}.{})",
                method.name(),
                stream(method.is_client_streaming()),
                method.input().full_name(),
                stream(method.is_server_streaming()),
                method.output().full_name(),
            );
            let options = options(&method.options());
            if options.is_empty() {
                self.line(&format!("{head};"));
                continue;
            }
            self.open(&head);
            self.options(options);
            self.close();
        }
        self.close();
    }

    fn type_name(&self, scope: Option<&MessageDescriptor>, kind: &Kind) -> String {
        match kind {
            Kind::Message(of) => self.reference(scope, of.full_name()),
            Kind::Enum(of) => self.reference(scope, of.full_name()),
            // As the language calls it.
            scalar => format!("{scalar:?}").to_lowercase(),
        }
    }

    /// A name as short as it can be without meaning another one: protobuf looks for its first part from
    /// the inside out.
    fn reference(&self, scope: Option<&MessageDescriptor>, name: &str) -> String {
        let mut inside: Vec<MessageDescriptor> = Vec::new();
        let mut scope = scope.cloned();
        loop {
            let prefix = scope.as_ref().map_or(&*self.package, |scope| scope.full_name());
            let rest = match prefix {
                "" => Some(name),
                prefix => name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')),
            };
            if let Some(rest) = rest {
                let first = rest.split('.').next().unwrap_or_default();
                if !inside.iter().any(|message| declares(message, first)) {
                    return rest.to_owned();
                }
            }
            let Some(message) = scope else { return format!(".{name}") };
            scope = message.parent_message();
            inside.push(message);
        }
    }

    fn options(&mut self, options: Vec<(String, String)>) {
        for (name, value) in options {
            self.line(&format!("option {name} = {value};"));
        }
    }

    fn open(&mut self, head: &str) {
        self.line(&format!("{head} {{"));
        self.indent += 1;
    }

    fn close(&mut self) {
        self.indent -= 1;
        self.line("}");
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{:indent$}{text}", "", indent = 2 * self.indent);
    }

    fn blank(&mut self) {
        self.out.push('\n');
    }
}

/// The messages in another one, of which so many have been written.
struct Nested {
    of: Vec<MessageDescriptor>,
    next: usize,
}

const HIGHEST_FIELD: i32 = (1 << 29) - 1;

fn is_group(parent: &MessageDescriptor, of: &MessageDescriptor) -> bool {
    parent.fields().any(|field| field.is_group() && field.kind().as_message() == Some(of))
}

/// The message that an extension declares where it stands.
fn group_of(extension: &ExtensionDescriptor) -> Option<MessageDescriptor> {
    extension.kind().as_message().filter(|_| extension.is_group()).cloned()
}

fn declares(message: &MessageDescriptor, name: &str) -> bool {
    let proto = message.descriptor_proto();
    proto.field.iter().any(|field| field.name() == name)
        || proto.nested_type.iter().any(|nested| nested.name() == name)
        || proto.oneof_decl.iter().any(|oneof| oneof.name() == name)
        || proto.extension.iter().any(|field| field.name() == name)
        || proto
            .enum_type
            .iter()
            .any(|of| of.name() == name || of.value.iter().any(|value| value.name() == name))
}

/// From the first to the last one.
fn range_text(first: i32, last: i32, highest: i32) -> String {
    match last {
        _ if first == last => first.to_string(),
        last if last == highest => format!("{first} to max"),
        last => format!("{first} to {last}"),
    }
}

/// The options that are set, with their values as they are written.
fn options(set: &DynamicMessage) -> Vec<(String, String)> {
    let fields = set.fields().filter(|(field, _)| field.name() != "uninterpreted_option");
    let fields = fields.map(|(field, value)| (field.name().to_owned(), field.kind(), value));
    let extensions = set.extensions().map(|(extension, value)| {
        (format!("(.{})", extension.full_name()), extension.kind(), value)
    });
    let mut options = Vec::new();
    for (name, kind, value) in fields.chain(extensions) {
        let values = value.as_list().map_or(std::slice::from_ref(value), |list| list);
        options.extend(values.iter().map(|value| (name.clone(), option_value(&kind, value))));
    }
    options
}

fn option_value(kind: &Kind, value: &Value) -> String {
    match (kind, value) {
        (Kind::Enum(of), Value::EnumNumber(number)) => match of.get_value(*number) {
            Some(value) => value.name().to_owned(),
            None => number.to_string(),
        },
        (_, Value::String(text)) => quoted(text),
        (_, Value::Bytes(bytes)) => {
            let escaped = bytes.iter().flat_map(|&byte| std::ascii::escape_default(byte));
            format!("\"{}\"", escaped.map(char::from).collect::<String>())
        }
        (_, Value::Message(message)) => format!("{{ {} }}", message.to_text_format()),
        (_, Value::Bool(value)) => value.to_string(),
        (_, Value::I32(value)) => value.to_string(),
        (_, Value::I64(value)) => value.to_string(),
        (_, Value::U32(value)) => value.to_string(),
        (_, Value::U64(value)) => value.to_string(),
        (_, Value::F32(value)) => value.to_string().to_lowercase(),
        (_, Value::F64(value)) => value.to_string().to_lowercase(),
        // An option is no map, and a list was taken apart.
        (_, Value::EnumNumber(_) | Value::List(_) | Value::Map(_)) => String::new(),
    }
}

fn bracketed(options: &[(String, String)]) -> String {
    let options: Vec<_> = options.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    if options.is_empty() { String::new() } else { format!(" [{}]", options.join(", ")) }
}

fn field_options(field: &FieldDescriptorProto, set: &DynamicMessage) -> String {
    let mut all = Vec::new();
    if let Some(default) = &field.default_value {
        let value = match field.r#type() {
            Type::String => quoted(default),
            // It is escaped as it stands.
            Type::Bytes => format!("\"{default}\""),
            _ => default.clone(),
        };
        all.push(("default".to_owned(), value));
    }
    // An extension has none of its own.
    if let Some(name) = field.json_name.as_ref().filter(|_| field.extendee.is_none())
        && *name != json_name(field.name())
    {
        all.push(("json_name".to_owned(), quoted(name)));
    }
    all.extend(options(set));
    bracketed(&all)
}

/// What protoc calls a field in JSON unless somebody says otherwise.
fn json_name(name: &str) -> String {
    let mut words = name.split('_');
    let mut json = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        json.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        json.extend(letters);
    }
    json
}

fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            character if character.is_control() => {
                let mut buffer = [0; 4];
                for byte in character.encode_utf8(&mut buffer).bytes() {
                    let _ = write!(quoted, "\\{byte:03o}");
                }
            }
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}
