"""Scores detections: mAP, AR@AN, diagnosis. Needs NumPy alone, but for report/."""
