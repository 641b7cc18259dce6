"""What is learnt: timesteps, flow matching, losses."""
