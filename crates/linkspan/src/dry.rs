//! `--dry-run`: the plan as it would be carried out. It reads what stands at the targets and touches nothing.

use linkspan_app::run::{Job, mode_word, write_word};
use linkspan_core::{Admission, Alter, Destination, Gate, Result, TableShape, WriteMode};
use linkspan_engine::{gate::PolicyGate, plan::Plan, run::Assignment};
use serde_json::{Value, json};

use crate::terminal::{Terminal, table};

/// One stream of the plan, in words.
struct Step {
    stream: String,
    mode: &'static str,
    cursor: String,
    write: &'static str,
    key: String,
    target: String,
    change: String,
    refused: Option<Value>,
}

pub async fn show(job: &Job, plan: &Plan, destination: &dyn Destination, terminal: &Terminal) -> Result<()> {
    let gate = PolicyGate::new(job.policies.clone(), &destination.capability());
    let mut steps = Vec::with_capacity(plan.assignments.len());
    for assignment in &plan.assignments {
        let stands = destination.shape(&assignment.target).await?;
        steps.push(step(assignment, stands.as_ref(), &gate));
    }
    let all: Vec<Value> = steps.iter().map(Step::to_json).collect();
    let answer = json!({
        "event": "plan", "connection": job.name, "id": job.id, "from": job.from.shown, "to": job.to.shown, "streams": all, "notes": plan.notes,
    });
    if terminal.json() {
        terminal.json_line(&answer);
        return Ok(());
    }
    let paint = terminal.paint_out();
    terminal.out(&format!("{} {} -> {} (connection {})", paint.bold("plan:"), job.from.shown, job.to.shown, job.name));
    let headers = ["stream", "mode", "cursor", "write", "key", "target", "at the destination"];
    terminal.out(&table(&headers, &[], steps.into_iter().map(Step::cells).collect(), paint));
    for note in &plan.notes {
        terminal.out(&format!("note: {note}"));
    }
    terminal.out("nothing was changed; leave out --dry-run to run it");
    Ok(())
}

fn step(a: &Assignment, stands: Option<&TableShape>, gate: &dyn Gate) -> Step {
    let stream = &a.selected.stream;
    let admission = match stands {
        Some(shape) if a.write == WriteMode::Replace => gate.replace(&stream.name, shape, &stream.schema),
        stands => gate.admit(&stream.name, stands, &stream.schema),
    };
    let (change, refused) = match (&admission, stands) {
        (Admission::Park(e), _) => (format!("refused: {}", e.message()), Some(e.to_json())),
        (Admission::Load(_), Some(shape)) if !shape.ours && a.write != WriteMode::Append => {
            ("a table that is not Linkspan's stands there".into(), None)
        }
        (Admission::Load(_), Some(_)) if a.write == WriteMode::Replace => ("the table is replaced".into(), None),
        (Admission::Load(plan), _) => (alters(&plan.ddl), None),
    };
    Step {
        stream: stream.name.to_string(),
        mode: mode_word(a.selected.read),
        cursor: a.selected.cursor.clone().unwrap_or_default(),
        write: write_word(a.write),
        key: a.key.join(", "),
        target: a.target.to_string(),
        change,
        refused,
    }
}

fn alters(ddl: &[Alter]) -> String {
    let words: Vec<String> = ddl
        .iter()
        .map(|alter| match alter {
            Alter::Create { schema, .. } => format!("a table of {} columns is made", schema.fields().len()),
            Alter::Add(field) => format!("column {} is added", field.name()),
            Alter::Widen { from, to } => format!("column {} is widened from {} to {}", to.name(), from.data_type(), to.data_type()),
            Alter::DropNotNull(field) => format!("column {} may be null", field.name()),
        })
        .collect();
    if words.is_empty() { "fits as it is".into() } else { words.join("; ") }
}

impl Step {
    fn cells(self) -> Vec<String> {
        vec![self.stream, self.mode.into(), self.cursor, self.write.into(), self.key, self.target, self.change]
    }
    fn to_json(&self) -> Value {
        json!({
            "stream": self.stream, "mode": self.mode, "cursor": self.cursor, "write": self.write, "key": self.key, "target": self.target,
            "change": self.change, "refused": self.refused,
        })
    }
}
