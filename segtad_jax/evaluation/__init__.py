"""Scoring of detections: mAP, AR@AN, diagnosis. Needs NumPy alone."""
