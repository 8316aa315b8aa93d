"""Times requests and emits their events; the only place where the server meets telemetry."""
