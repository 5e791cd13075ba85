//! The content of rows: words from tables, numbers from mixed bits, straight into Arrow buffers.

use std::sync::{Arc, LazyLock};

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use linkspan_core::{Error, ErrorKind, OP_COLUMN, Result, SEQ_COLUMN};

use super::rounds::{Happening, Kind, Op, Table};

/// Whether rows carry `_ls_op` and `_ls_seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feed {
    With,
    Without,
}

const FIRST: [(&str, &str); 32] = [
    ("Ada", "ada"),
    ("Björn", "bjorn"),
    ("Chloé", "chloe"),
    ("Dmitri", "dmitri"),
    ("Élodie", "elodie"),
    ("Fatima", "fatima"),
    ("Goran", "goran"),
    ("Hélène", "helene"),
    ("Ines", "ines"),
    ("José", "jose"),
    ("Kenji", "kenji"),
    ("Łukasz", "lukasz"),
    ("Mei", "mei"),
    ("Nadia", "nadia"),
    ("Oğuz", "oguz"),
    ("Paul", "paul"),
    ("Quentin", "quentin"),
    ("Renée", "renee"),
    ("Søren", "soren"),
    ("Tomás", "tomas"),
    ("Ursula", "ursula"),
    ("Věra", "vera"),
    ("Wanjiru", "wanjiru"),
    ("Ximena", "ximena"),
    ("Yusuf", "yusuf"),
    ("Zoë", "zoe"),
    ("美咲", "misaki"),
    ("Олег", "oleg"),
    ("Ravi", "ravi"),
    ("Grace", "grace"),
    ("Noor", "noor"),
    ("Liam", "liam"),
];
const LAST: [&str; 32] = [
    "Andersen",
    "Bianchi",
    "Çelik",
    "Dubois",
    "Eriksson",
    "Fernández",
    "García",
    "Hansen",
    "Ivanova",
    "Jansen",
    "Kowalski",
    "Lindqvist",
    "Müller",
    "Nguyen",
    "O'Brien",
    "Petrov",
    "Quispe",
    "Rossi",
    "Smith",
    "Tanaka",
    "Ueda",
    "van der Berg",
    "Weber",
    "Xu",
    "Yılmaz",
    "Zhang",
    "Okafor",
    "Silva",
    "Kaur",
    "Haddad",
    "Novák",
    "Papadopoulos",
];
const CITIES: [(&str, &str); 32] = [
    ("Amsterdam", "NL"),
    ("Bogotá", "CO"),
    ("Chennai", "IN"),
    ("Dublin", "IE"),
    ("Essen", "DE"),
    ("Firenze", "IT"),
    ("Göteborg", "SE"),
    ("Helsinki", "FI"),
    ("İzmir", "TR"),
    ("Jakarta", "ID"),
    ("Kraków", "PL"),
    ("Lagos", "NG"),
    ("Malmö", "SE"),
    ("Nairobi", "KE"),
    ("Oslo", "NO"),
    ("Porto", "PT"),
    ("Québec", "CA"),
    ("Rotterdam", "NL"),
    ("São Paulo", "BR"),
    ("Tromsø", "NO"),
    ("Utrecht", "NL"),
    ("Valparaíso", "CL"),
    ("Wrocław", "PL"),
    ("Xi'an", "CN"),
    ("Yokohama", "JP"),
    ("Zürich", "CH"),
    ("東京", "JP"),
    ("Київ", "UA"),
    ("Lima", "PE"),
    ("Seattle", "US"),
    ("Austin", "US"),
    ("Bergen", "NO"),
];
const STATUSES: [&str; 8] = ["new", "paid", "paid", "packed", "shipped", "shipped", "delivered", "returned"];
const CURRENCIES: [&str; 4] = ["EUR", "USD", "GBP", "JPY"];
const NOTES: [&str; 16] = [
    "leave at the door",
    "call before delivery ☎",
    "gift 🎁, please wrap",
    "",
    "says \"no hurry\"",
    "a, comma; a semicolon",
    "two\nlines",
    "tab\there",
    "naïve café",
    "¿Dónde está?",
    "配達は午後",
    "left\\right",
    "'single' quotes",
    "100 % off",
    "NULL",
    "Ω≈ç√∫",
];

/// 2020-01-01T00:00:00Z in microseconds, and in days.
const EPOCH_2020: i64 = 1_577_836_800_000_000;
const DAY: i64 = 86_400_000_000;

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

static CUSTOMERS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("email", DataType::Utf8, false),
        Field::new("city", DataType::Utf8, false),
        Field::new("country", DataType::Utf8, false),
        Field::new("is_active", DataType::Boolean, false),
        Field::new("credit_limit", DataType::Decimal128(12, 2), true),
        Field::new("note", DataType::Utf8, true),
        Field::new("created_at", instant(), false),
        Field::new("updated_at", instant(), false),
    ]))
});
static ORDERS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("customer_id", DataType::Int64, false),
        Field::new("status", DataType::Utf8, false),
        Field::new("amount", DataType::Decimal128(12, 2), false),
        Field::new("currency", DataType::Utf8, false),
        Field::new("quantity", DataType::Int32, false),
        Field::new("weight_kg", DataType::Float64, true),
        Field::new("ship_by", DataType::Date32, true),
        Field::new("note", DataType::Utf8, true),
        Field::new("created_at", instant(), false),
        Field::new("updated_at", instant(), false),
    ]))
});

pub(super) fn schema(kind: Kind) -> SchemaRef {
    match kind {
        Kind::Customers => CUSTOMERS.clone(),
        Kind::Orders => ORDERS.clone(),
    }
}

pub(super) fn feed_schema(kind: Kind) -> SchemaRef {
    let mut fields: Vec<_> = schema(kind).fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(OP_COLUMN, DataType::Utf8, false)));
    fields.push(Arc::new(Field::new(SEQ_COLUMN, DataType::FixedSizeBinary(16), false)));
    Arc::new(Schema::new(fields))
}

/// The rows of what happened, in order.
pub(super) fn build(table: &Table, round: u64, happenings: &[Happening], feed: Feed) -> Result<RecordBatch> {
    let mut columns = match table.kind {
        Kind::Customers => customers(table, happenings)?,
        Kind::Orders => orders(table, happenings)?,
    };
    let schema = match feed {
        Feed::Without => schema(table.kind),
        Feed::With => {
            columns.push(ops(happenings)?);
            columns.push(sequence(round, happenings)?);
            feed_schema(table.kind)
        }
    };
    RecordBatch::try_new(schema, columns).map_err(internal)
}

fn internal(e: arrow_schema::ArrowError) -> Error {
    Error::new(ErrorKind::Internal, "the rows could not be built").because(e)
}

fn customers(table: &Table, happenings: &[Happening]) -> Result<Vec<ArrayRef>> {
    let n = happenings.len();
    let (mut ids, mut active, mut limits, mut limit_set) =
        (Vec::with_capacity(n), Vec::with_capacity(n), Vec::with_capacity(n), Vec::with_capacity(n));
    let (mut created, mut updated) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let (mut names, mut emails, mut cities) = (Texts::new(n, 16), Texts::new(n, 24), Texts::new(n, 10));
    let (mut countries, mut notes) = (Texts::new(n, 2), Texts::nullable(n, 6));
    for h in happenings {
        // Who somebody is stays; where they live and what they may spend changes with the version.
        let (who, now) = (table.bits(h.id, 0), table.bits(h.id, h.version));
        let (first, handle) = FIRST[(who & 31) as usize];
        let (city, country) = CITIES[(now >> 10 & 31) as usize];
        ids.push(h.id as i64);
        names.push(&[first.as_bytes(), b" ", LAST[(who >> 5 & 31) as usize].as_bytes()]);
        emails.push(&[handle.as_bytes(), b".", Digits::of(h.id).text(), b"@example.com"]);
        cities.push(&[city.as_bytes()]);
        countries.push(&[country.as_bytes()]);
        active.push(now >> 15 & 7 != 0);
        limits.push(i128::from(now >> 18 & 0x00ff_ffff));
        limit_set.push(now >> 42 & 7 != 0);
        notes.push_if(now >> 45 & 3 == 0, NOTES[(now >> 47 & 15) as usize]);
        created.push(created_at(h.id, who));
        updated.push(updated_at(h, who));
    }
    Ok(vec![
        Arc::new(Int64Array::from(ids)),
        names.finish()?,
        emails.finish()?,
        cities.finish()?,
        countries.finish()?,
        Arc::new(BooleanArray::from(active)),
        decimals(limits, Some(NullBuffer::from(limit_set)))?,
        notes.finish()?,
        instants(created),
        instants(updated),
    ])
}

fn orders(table: &Table, happenings: &[Happening]) -> Result<Vec<ArrayRef>> {
    let n = happenings.len();
    let (mut ids, mut buyers, mut amounts, mut quantities) =
        (Vec::with_capacity(n), Vec::with_capacity(n), Vec::with_capacity(n), Vec::with_capacity(n));
    let (mut weights, mut weighed) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let (mut ship_by, mut ships) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let (mut created, mut updated) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let (mut statuses, mut currencies, mut notes) = (Texts::new(n, 8), Texts::new(n, 3), Texts::nullable(n, 6));
    let customers = table.customers().max(1);
    for h in happenings {
        let (what, now) = (table.bits(h.id, 0), table.bits(h.id, h.version));
        ids.push(h.id as i64);
        // The high bits times the count: a fair draw without a division.
        buyers.push((((u128::from(what) * u128::from(customers)) >> 64) as i64) + 1);
        statuses.push(&[STATUSES[(now & 7) as usize].as_bytes()]);
        amounts.push(i128::from(what >> 3 & 0x000f_ffff) + i128::from(now >> 3 & 0xff));
        currencies.push(&[CURRENCIES[(what >> 23 & 3) as usize].as_bytes()]);
        quantities.push((what >> 25 & 15) as i32 + 1);
        weights.push((what >> 29 & 0xffff) as f64 / 256.0);
        weighed.push(what >> 45 & 7 != 0);
        let placed = created_at(h.id, what);
        ship_by.push((placed / DAY) as i32 + (now >> 11 & 15) as i32);
        ships.push(now >> 15 & 3 != 0);
        notes.push_if(now >> 17 & 7 == 0, NOTES[(now >> 20 & 15) as usize]);
        created.push(placed);
        updated.push(updated_at(h, what));
    }
    Ok(vec![
        Arc::new(Int64Array::from(ids)),
        Arc::new(Int64Array::from(buyers)),
        statuses.finish()?,
        decimals(amounts, None)?,
        currencies.finish()?,
        Arc::new(Int32Array::from(quantities)),
        Arc::new(Float64Array::new(weights.into(), Some(weighed.into()))),
        Arc::new(Date32Array::new(ship_by.into(), Some(ships.into()))),
        notes.finish()?,
        instants(created),
        instants(updated),
    ])
}

/// Rows are about 97 seconds apart, with microseconds.
fn created_at(id: u64, bits: u64) -> i64 {
    EPOCH_2020 + ((id % 2_000_000) * 97_000_000 + (bits >> 40)) as i64
}

fn updated_at(h: &Happening, bits: u64) -> i64 {
    match h.version {
        0 => created_at(h.id, bits),
        version => EPOCH_2020 + DAY * (2_500 + (version % 100_000) as i64) + (h.id % 86_400) as i64 * 1_000_000,
    }
}

fn instants(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
}

fn decimals(values: Vec<i128>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    Ok(Arc::new(Decimal128Array::new(values.into(), nulls).with_precision_and_scale(12, 2).map_err(internal)?))
}

fn ops(happenings: &[Happening]) -> Result<ArrayRef> {
    let mut ops = Texts::new(happenings.len(), 1);
    for h in happenings {
        ops.push(&[match h.op {
            Op::Insert => b"i",
            Op::Update => b"u",
            Op::Delete => b"d",
        }]);
    }
    ops.finish()
}

/// (round, id): within a round every id happens once, in rising order.
fn sequence(round: u64, happenings: &[Happening]) -> Result<ArrayRef> {
    let mut bytes = Vec::with_capacity(happenings.len() * 16);
    for h in happenings {
        bytes.extend_from_slice(&round.to_be_bytes());
        bytes.extend_from_slice(&h.id.to_be_bytes());
    }
    Ok(Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from_vec(bytes), None).map_err(internal)?))
}

/// A text column under construction: pieces are copied once, into the buffer that the array keeps.
struct Texts {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
    set: Option<Vec<bool>>,
}

impl Texts {
    fn new(rows: usize, mean: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { offsets, bytes: Vec::with_capacity(rows * mean), set: None }
    }
    fn nullable(rows: usize, mean: usize) -> Self {
        Self { set: Some(Vec::with_capacity(rows)), ..Self::new(rows, mean) }
    }
    fn push(&mut self, pieces: &[&[u8]]) {
        for piece in pieces {
            self.bytes.extend_from_slice(piece);
        }
        // A batch's words are far below 2 GiB.
        self.offsets.push(self.bytes.len() as i32);
    }
    fn push_if(&mut self, set: bool, text: &str) {
        self.push(&[if set { text.as_bytes() } else { b"" }]);
        if let Some(all) = &mut self.set {
            all.push(set);
        }
    }
    fn finish(self) -> Result<ArrayRef> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        let array = StringArray::try_new(offsets, Buffer::from_vec(self.bytes), self.set.map(NullBuffer::from)).map_err(internal)?;
        Ok(Arc::new(array))
    }
}

/// A number's decimal digits, on the stack.
struct Digits {
    bytes: [u8; 20],
    start: usize,
}

impl Digits {
    fn of(mut n: u64) -> Self {
        let (mut bytes, mut start) = ([b'0'; 20], 20);
        loop {
            start -= 1;
            bytes[start] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                return Self { bytes, start };
            }
        }
    }
    fn text(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn initial(n: u64) -> Vec<Happening> {
        (1..=n).map(|id| Happening { id, version: 0, op: Op::Insert }).collect()
    }

    #[test]
    fn rows_have_unicode_nulls_and_the_declared_schema() {
        for kind in Kind::ALL {
            let table = Table::new(kind, 7, 5_000, 100, 1_000);
            let rows = build(&table, 0, &initial(5_000), Feed::With).unwrap();
            assert_eq!(rows.schema(), feed_schema(kind));
            let notes = rows.column_by_name("note").unwrap();
            assert!(notes.null_count() > 1_000 && notes.null_count() < 5_000);
            assert_eq!(rows, build(&table, 0, &initial(5_000), Feed::With).unwrap());
        }
    }

    #[test]
    fn an_update_changes_the_row_and_its_time_but_not_its_identity() {
        let table = Table::new(Kind::Customers, 7, 100, 10, 100);
        let one = |version| build(&table, version, &[Happening { id: 5, version, op: Op::Update }], Feed::Without).unwrap();
        let (before, after) = (one(0), one(3));
        for same in ["id", "name", "email", "created_at"] {
            assert_eq!(before.column_by_name(same), after.column_by_name(same));
        }
        assert_ne!(before.column_by_name("updated_at"), after.column_by_name("updated_at"));
    }
}
