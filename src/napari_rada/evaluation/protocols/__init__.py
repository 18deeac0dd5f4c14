"""The paper's protocols: preparation of published data sets, their splits, training, test, and the paper's figures."""
