"""The benchmark: data sets, methods behind one interface, results that survive interruptions, tables and plots."""
