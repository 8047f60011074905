"""What clients are to do, one module a client: functions of the endpoint, listed as `CASES`."""
