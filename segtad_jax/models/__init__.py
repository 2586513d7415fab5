"""The network: SSN (segmentation), PDN (proposals), SegTAD (both)."""
