//! A connector's PATCH and the connection that was made with it: changed together or not at all.

use linkspan_core::ErrorKind;
use serde_json::{Value, json};

use crate::plant::Plant;

async fn bootstrapped() -> Plant {
    let plant = Plant::new().await;
    plant.shop(3).await;
    let body = json!({
        "name": "Production", "type": "sqlite", "config": {"path": plant.path("shop.db")}, "schedule_cron": "0 2 * * *",
        "schedule_timezone": "Europe/Berlin", "streams": "orders", "dest": "copy",
    });
    plant.local("connectors.bootstrap", body).await;
    plant
}

async fn patch(plant: &Plant, mut fields: Value) -> Value {
    fields["connector"] = "Production".into();
    plant.local("connectors.update", fields).await
}

async fn connection(plant: &Plant) -> Value {
    plant.local("connections.show", json!({"connection": "Production"})).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_moves_the_schedule_with_the_rest_of_it() {
    let plant = bootstrapped().await;
    let shown = patch(&plant, json!({"description": "ours", "schedule_cron": "30 4 * * *", "schedule_mode": "full"})).await;
    assert_eq!(shown["description"], "ours");
    let now = connection(&plant).await;
    assert_eq!(
        (now["schedule"]["cron"].as_str(), now["schedule"]["timezone"].as_str()),
        (Some("30 4 * * *"), Some("Europe/Berlin")),
        "{now}"
    );
    assert_eq!(now["mode"], "full");
    assert!(now["next_run_at"].as_str().unwrap().contains(":30:00"), "the ticker knows it: {now}");
    patch(&plant, json!({"schedule_timezone": "UTC"})).await;
    let now = connection(&plant).await;
    assert_eq!(now["schedule"], json!({"cron": "30 4 * * *", "timezone": "UTC"}));
    assert!(now["next_run_at"].as_str().unwrap().contains("T04:30:00"), "{now}");
    patch(&plant, json!({"schedule_cron": null, "schedule_mode": null})).await;
    let now = connection(&plant).await;
    assert_eq!((&now["schedule"], now["next_run_at"].is_null(), now["mode"].as_str()), (&Value::Null, true, Some("incremental")), "{now}");
    patch(&plant, json!({"schedule_cron": "@daily"})).await;
    assert!(!connection(&plant).await["next_run_at"].is_null());
    assert_eq!(plant.run("Production").await["status"], "completed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_in_either_changes_neither() {
    let plant = bootstrapped().await;
    let (connector, before) = (plant.local("connectors.show", json!({"connector": "Production"})).await, connection(&plant).await);
    for (wrong, kind) in [
        (json!({"description": "x", "schedule_cron": "61 * * * *"}), ErrorKind::ConfigInvalid),
        (json!({"description": "x", "schedule_cron": "0 2 * * *", "schedule_timezone": "Mars/Base"}), ErrorKind::ConfigInvalid),
        (json!({"description": "x", "schedule_mode": "sometimes"}), ErrorKind::ConfigInvalid),
        (json!({"schedule_cron": "0 3 * * *", "config": {"pth": "x"}}), ErrorKind::ConfigInvalid),
        (json!({"schedule_cron": "0 3 * * *", "name": "shop"}), ErrorKind::AlreadyExists),
        (json!({"schedule_crn": "0 3 * * *"}), ErrorKind::ConfigInvalid),
    ] {
        let mut body = wrong.clone();
        body["connector"] = "Production".into();
        assert_eq!(plant.refused("connectors.update", body).await.kind(), kind, "{wrong}");
        assert_eq!(plant.local("connectors.show", json!({"connector": "Production"})).await, connector, "{wrong}");
        assert_eq!(connection(&plant).await, before, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_without_such_a_connection_has_no_schedule() {
    let plant = bootstrapped().await;
    let refused = plant.refused("connectors.update", json!({"connector": "shop", "schedule_cron": "0 2 * * *"})).await;
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.suggested_fix().unwrap().contains("connections"), "{refused:?}");
    plant.local("connectors.update", json!({"connector": "shop", "schedule_cron": null})).await;
    // A connection of somebody's own making is not moved, whatever it is called.
    plant.local("connections.create", json!({"name": "shop", "from": "shop", "dest": "copy:x", "streams": "orders"})).await;
    assert_eq!(
        plant.refused("connectors.update", json!({"connector": "shop", "schedule_cron": "0 2 * * *"})).await.kind(),
        ErrorKind::Conflict
    );
    // Nor one that reads from another connector by now.
    plant.local("connections.update", json!({"connection": "Production", "from": "shop"})).await;
    for connector in ["shop", "Production"] {
        let refused = plant.refused("connectors.update", json!({"connector": connector, "schedule_cron": "0 2 * * *"})).await;
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{connector}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_pair_is_still_one() {
    let plant = bootstrapped().await;
    plant.local("connections.update", json!({"connection": "Production", "name": "nightly"})).await;
    plant.local("connectors.update", json!({"connector": "Production", "name": "Prod", "schedule_cron": "0 5 * * *"})).await;
    let now = plant.local("connections.show", json!({"connection": "nightly"})).await;
    assert_eq!((now["from"].as_str(), now["schedule"]["cron"].as_str()), (Some("Prod"), Some("0 5 * * *")));
}
