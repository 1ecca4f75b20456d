"""Time budgets: profiles of devices, predicted latencies, and their errors."""
