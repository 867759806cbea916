"""Security associations, policies, selectors, algorithms, and the contract of datapaths."""
